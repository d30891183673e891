// Errors of the package. `NbdError` travels over the wire as an errno; the other two are for the caller
// alone: `NbdProtocolError` when a peer breaks the protocol, `NbdServerError` when a server refuses a call.
import { ERRNO, REPLY } from './protocol.ts';

export type NbdErrno = keyof typeof ERRNO;

/** A request failed. Thrown by exports to choose the errno, and by the client for what the server said. */
export class NbdError extends Error {
  readonly errno: NbdErrno;

  constructor(errno: NbdErrno, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'NbdError';
    this.errno = errno;
  }
}

/** The peer sent what the protocol does not allow, or the connection ended under a request. */
export class NbdProtocolError extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'NbdProtocolError';
  }
}

/** The server refused an option; `reply` is the protocol's name of the refusal, such as `ERR_UNKNOWN`. */
export class NbdOptionError extends Error {
  readonly reply: string;

  constructor(reply: string, message: string) {
    super(message);
    this.name = 'NbdOptionError';
    this.reply = reply;
  }
}

export type NbdServerErrorKind = 'exists' | 'not-found' | 'busy' | 'closed' | 'invalid-argument';

/** A call on `NbdServer` was refused; nothing has changed. */
export class NbdServerError extends Error {
  readonly kind: NbdServerErrorKind;

  constructor(kind: NbdServerErrorKind, message: string) {
    super(message);
    this.name = 'NbdServerError';
    this.kind = kind;
  }
}

const ERRNO_NAMES: ReadonlyMap<number, NbdErrno> = new Map(
  Object.entries(ERRNO).map(([name, code]) => [code, name as NbdErrno]),
);

const REPLY_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(REPLY).map(([name, code]) => [code, name]),
);

/** Name of a wire errno; an unknown one counts as EINVAL (section "Error values"). */
export function errnoName(code: number): NbdErrno {
  return ERRNO_NAMES.get(code) ?? 'EINVAL';
}

/** Name of an option reply, or its number where unknown. */
export function replyName(reply: number): string {
  return REPLY_NAMES.get(reply) ?? `reply ${reply}`;
}

/** What a client is told where the error's own text is not meant for it. */
export const ERRNO_MESSAGES: Readonly<Record<NbdErrno, string>> = {
  EPERM: 'operation not permitted',
  EIO: 'input/output error',
  ENOMEM: 'out of memory',
  EINVAL: 'invalid request',
  ENOSPC: 'no space left on the export',
  EOVERFLOW: 'reply too large',
  ENOTSUP: 'operation not supported',
  ESHUTDOWN: 'server is shutting down',
};
