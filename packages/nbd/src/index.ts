// The only door of the package.

export type { NbdConnectOptions, NbdConnectTarget, NbdExtent } from './client.ts';
export { NbdClient } from './client.ts';
export type { NbdErrno, NbdServerErrorKind } from './errors.ts';
export { NbdError, NbdOptionError, NbdProtocolError, NbdServerError } from './errors.ts';
export type { NbdExport, Pending, StatusExtent, WriteZeroesOptions } from './export.ts';
export {
  CONTEXT_ALLOCATION,
  CONTEXT_ALLOCATION_DEPTH,
  CONTEXT_DIRTY_BITMAP_PREFIX,
  STATE,
  STATE_DIRTY,
} from './protocol.ts';
export type {
  NbdAddress,
  NbdConnectionInfo,
  NbdListenOptions,
  NbdServerOptions,
  RemovalMode,
} from './server.ts';
export { NbdServer } from './server.ts';
export type { NbdTarget } from './uri.ts';
export { formatNbdUri, parseNbdUri } from './uri.ts';
