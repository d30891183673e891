// From any error to the errno an NBD client is told: the one translation at this boundary.
import { EngineError, type EngineErrorKind } from '@tidemark/engine';
import { type NbdErrno, NbdError } from '@tidemark/nbd';

/** What each kind becomes; `io` goes by its system error first. */
const BY_KIND: Readonly<Record<EngineErrorKind, NbdErrno>> = {
  io: 'EIO',
  'invalid-argument': 'EINVAL',
  'invalid-format': 'EIO',
  unsupported: 'ENOTSUP',
  corrupt: 'EIO',
  'out-of-bounds': 'EINVAL',
  'not-found': 'EIO',
  exists: 'EIO',
  busy: 'EIO',
  conflict: 'EPERM',
  // A read outside what a snapshot holds (scenarios FL-04, NB-08).
  denied: 'EINVAL',
  cancelled: 'EIO',
};

/** System errors that have a counterpart in the protocol; all others are EIO (section "Error values"). */
const BY_SYSTEM_ERROR: Readonly<Record<string, NbdErrno>> = {
  EPERM: 'EPERM',
  EACCES: 'EPERM',
  EROFS: 'EPERM',
  ENOMEM: 'ENOMEM',
  EINVAL: 'EINVAL',
  ENOSPC: 'ENOSPC',
  EDQUOT: 'ENOSPC',
  EFBIG: 'ENOSPC',
  EOVERFLOW: 'EOVERFLOW',
  ENOTSUP: 'ENOTSUP',
  EOPNOTSUPP: 'ENOTSUP',
  ESHUTDOWN: 'ESHUTDOWN',
  // The protocol has no word for being late; this is what QEMU's server says.
  ETIMEDOUT: 'EINVAL',
};

/** Total: anything thrown has an errno. */
export function toNbdErrno(error: unknown): NbdErrno {
  if (error instanceof NbdError) return error.errno;
  if (error instanceof EngineError) {
    if (error.kind === 'io') return fromSystemErrorName(error.context.errno);
    return BY_KIND[error.kind];
  }
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return fromSystemErrorName(typeof code === 'string' ? code : undefined);
}

function fromSystemErrorName(name: string | undefined): NbdErrno {
  if (name === undefined || !Object.hasOwn(BY_SYSTEM_ERROR, name)) return 'EIO';
  return BY_SYSTEM_ERROR[name] ?? 'EIO';
}
