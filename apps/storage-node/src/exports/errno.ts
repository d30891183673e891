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

/** System errors that have a counterpart in the protocol (section "Error values"), or that a lost connection is. */
const BY_SYSTEM_ERROR: Readonly<Record<string, NbdErrno>> = {
  EIO: 'EIO',
  EPERM: 'EPERM',
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
  ECANCELED: 'EIO',
  ECONNREFUSED: 'EIO',
  ECONNRESET: 'EIO',
  EHOSTUNREACH: 'EIO',
  ENETUNREACH: 'EIO',
  EPIPE: 'EIO',
};

/** What QEMU's server says where the protocol has no word, being late for one. */
const OTHER_SYSTEM_ERROR: NbdErrno = 'EINVAL';
/** Not the codes of the runtime's own errors, which have underscores. */
const SYSTEM_ERROR = /^E[A-Z0-9]+$/;

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
  if (name === undefined || !SYSTEM_ERROR.test(name)) return 'EIO';
  return BY_SYSTEM_ERROR[name] ?? OTHER_SYSTEM_ERROR;
}
