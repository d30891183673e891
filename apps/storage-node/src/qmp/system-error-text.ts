// The C library's words for system errors, which is how QMP clients see what a job failed with.
import { EngineError } from '@tidemark/engine';

const TEXTS: Readonly<Record<string, string>> = {
  EACCES: 'Permission denied',
  EADDRINUSE: 'Address already in use',
  EADDRNOTAVAIL: 'Cannot assign requested address',
  EBUSY: 'Device or resource busy',
  ECANCELED: 'Operation canceled',
  ECONNREFUSED: 'Connection refused',
  ECONNRESET: 'Connection reset by peer',
  EDQUOT: 'Disk quota exceeded',
  EFBIG: 'File too large',
  EHOSTUNREACH: 'No route to host',
  EINVAL: 'Invalid argument',
  EISDIR: 'Is a directory',
  EIO: 'Input/output error',
  ENAMETOOLONG: 'File name too long',
  ENETUNREACH: 'Network is unreachable',
  ENODEV: 'No such device',
  ENOENT: 'No such file or directory',
  ENOMEM: 'Cannot allocate memory',
  ENOSPC: 'No space left on device',
  ENOTSUP: 'Operation not supported',
  EOVERFLOW: 'Value too large for defined data type',
  EPERM: 'Operation not permitted',
  EPIPE: 'Broken pipe',
  EROFS: 'Read-only file system',
  ESHUTDOWN: 'Cannot send after transport endpoint shutdown',
  ETIMEDOUT: 'Connection timed out',
};

/** The error number's text where the system said one, otherwise the error's own. */
export function systemErrorText(error: unknown): string {
  const errno = error instanceof EngineError ? error.context.errno : (error as NodeJS.ErrnoException).code;
  const message = error instanceof Error ? error.message : String(error);
  return (errno === undefined ? undefined : TEXTS[errno]) ?? message;
}
