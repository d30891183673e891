// The one error type of the engine. Callers switch on `kind`, never on the message; each boundary
// (NBD errno, gRPC status) has one total function from kind to its own code.

export const ENGINE_ERROR_KINDS = [
  'io', // the operating system refused or failed a request; `errno` says how
  'invalid-argument', // the caller asked for something that can never be right
  'invalid-format', // bytes on disk are not what the format says
  'unsupported', // a valid thing that this engine does not do
  'corrupt', // metadata that contradicts itself, or a bitmap that cannot be trusted
  'out-of-bounds', // a request past the end
  'not-found',
  'exists',
  'busy', // held by another user: wait for it or end it
  'conflict', // permissions of two users exclude each other
  'denied', // read of a snapshot outside what it holds, or of a broken one
  'cancelled',
] as const;

export type EngineErrorKind = (typeof ENGINE_ERROR_KINDS)[number];

export interface EngineErrorContext {
  /** What was being done, such as `read` or `bitmap-merge`. */
  op?: string;
  /** The block node's name. */
  node?: string;
  /** Bytes. */
  offset?: number;
  /** Bytes. */
  length?: number;
  path?: string;
  /** System error name, such as `ENOSPC`, for kind `io`. */
  errno?: string;
  /** What to do next, as a sentence. Not part of the message: a monitor shows the message as QEMU words it. */
  hint?: string;
}

export class EngineError extends Error {
  readonly kind: EngineErrorKind;
  readonly context: EngineErrorContext;

  constructor(kind: EngineErrorKind, message: string, context: EngineErrorContext = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'EngineError';
    this.kind = kind;
    this.context = context;
  }

  /** The message and, where there is one, the hint: for people who are not used to QEMU's words. */
  get advice(): string {
    const { hint } = this.context;
    return hint === undefined ? this.message : `${this.message.replace(/\.$/, '')}. ${hint}`;
  }
}

/** Wraps an error thrown by node:fs or a system call; an EngineError passes as it is. */
export function fromSystemError(error: unknown, context: EngineErrorContext): EngineError {
  if (error instanceof EngineError) return error;
  const errno = systemErrorCode(error);
  const place = context.path ?? context.node ?? 'file';
  const what =
    errno === 'ENOSPC' ? 'No space left on device' : error instanceof Error ? error.message : String(error);
  const kind: EngineErrorKind = errno === 'ENOENT' ? 'not-found' : errno === 'EEXIST' ? 'exists' : 'io';
  const full = errno === undefined ? context : { ...context, errno };
  return new EngineError(kind, `${context.op ?? 'request'} on ${place} failed: ${what}`, full, error);
}

function systemErrorCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : undefined;
}
