// Transmission requests, server side: decoding, and every check that the protocol asks for before an export
// sees the request. Section "Request types".
import type { NbdExport } from './export.ts';
import { PAYLOAD_BYTES_MAX } from './limits.ts';
import { COMMAND, COMMAND_FLAG, ERRNO } from './protocol.ts';
import type { Cookie } from './reply.ts';

/** One request; the parser uses one object again and again. */
export interface Request extends Cookie {
  flags: number;
  command: number;
  /** Bytes; infinite where the wire's 64 bits exceed what a number holds exactly. */
  offset: number;
  /** Bytes. */
  length: number;
}

export function emptyRequest(): Request {
  return { flags: 0, command: 0, cookieHigh: 0, cookieLow: 0, offset: 0, length: 0 };
}

/** Fills `request` from the 28 bytes at `at`, whose magic the caller has checked. */
export function decodeRequest(request: Request, buffer: Buffer, at: number): void {
  request.flags = buffer.readUInt16BE(at + 4);
  request.command = buffer.readUInt16BE(at + 6);
  request.cookieHigh = buffer.readUInt32BE(at + 8);
  request.cookieLow = buffer.readUInt32BE(at + 12);
  const high = buffer.readUInt32BE(at + 16);
  request.offset = high < 2 ** 21 ? high * 2 ** 32 + buffer.readUInt32BE(at + 20) : Number.POSITIVE_INFINITY;
  request.length = buffer.readUInt32BE(at + 24);
}

/** The client's promise to the server, as far as a check needs it. */
export interface RequestRules {
  readonly target: NbdExport;
  readonly structured: boolean;
  readonly contexts: readonly unknown[];
}

/** The errno a request must fail with, or 0 when the export may see it. FUA is allowed on every command. */
export function checkRequest(request: Request, rules: RequestRules): number {
  const extra = request.flags & ~COMMAND_FLAG.FUA;
  switch (request.command) {
    case COMMAND.READ:
      if ((extra & ~COMMAND_FLAG.DF) !== 0 || (extra !== 0 && !rules.structured)) return ERRNO.EINVAL;
      return checkPayload(request, rules.target) || checkRange(request, rules.target, ERRNO.EINVAL);
    case COMMAND.WRITE:
      if (extra !== 0) return ERRNO.EINVAL;
      if (rules.target.readOnly) return ERRNO.EPERM;
      return checkPayload(request, rules.target) || checkRange(request, rules.target, ERRNO.ENOSPC);
    case COMMAND.FLUSH:
      return extra === 0 ? 0 : ERRNO.EINVAL;
    case COMMAND.TRIM:
      if (extra !== 0) return ERRNO.EINVAL;
      if (rules.target.readOnly) return ERRNO.EPERM;
      return checkRange(request, rules.target, ERRNO.EINVAL);
    case COMMAND.WRITE_ZEROES:
      return checkWriteZeroes(request, extra, rules.target);
    case COMMAND.CACHE:
      return extra === 0 ? checkRange(request, rules.target, ERRNO.EINVAL) : ERRNO.EINVAL;
    case COMMAND.BLOCK_STATUS:
      if ((extra & ~COMMAND_FLAG.REQ_ONE) !== 0) return ERRNO.EINVAL;
      if (!rules.structured || rules.contexts.length === 0 || request.length === 0) return ERRNO.EINVAL;
      return checkRange(request, rules.target, ERRNO.EINVAL);
    default:
      return ERRNO.EINVAL;
  }
}

function checkWriteZeroes(request: Request, extra: number, target: NbdExport): number {
  if ((extra & ~(COMMAND_FLAG.NO_HOLE | COMMAND_FLAG.FAST_ZERO)) !== 0) return ERRNO.EINVAL;
  if (target.readOnly) return ERRNO.EPERM;
  const errno = checkRange(request, target, ERRNO.ENOSPC);
  if (errno !== 0) return errno;
  return (extra & COMMAND_FLAG.FAST_ZERO) !== 0 && !target.fastZero ? ERRNO.ENOTSUP : 0;
}

function checkPayload(request: Request, target: NbdExport): number {
  return request.length > PAYLOAD_BYTES_MAX || request.length > target.maxBlockBytes ? ERRNO.EINVAL : 0;
}

function checkRange(request: Request, target: NbdExport, pastEnd: number): number {
  if (request.offset + request.length > target.sizeBytes) return pastEnd;
  const min = target.minBlockBytes;
  if (min > 1 && (request.offset % min !== 0 || request.length % min !== 0)) return ERRNO.EINVAL;
  return 0;
}

/** Why a request was refused, for the message of a structured error. */
export function refusalMessage(request: Request, errno: number, target: NbdExport): string {
  if (errno === ERRNO.EPERM) return 'the export is read-only';
  if (errno === ERRNO.ENOTSUP) return 'zeroing would not be faster than writing';
  const end = request.offset + request.length;
  if (request.command !== COMMAND.FLUSH && end > target.sizeBytes) {
    return `request ends at ${end}, past the export's ${target.sizeBytes} bytes`;
  }
  return `request is malformed: command ${request.command}, flags ${request.flags}, length ${request.length}`;
}
