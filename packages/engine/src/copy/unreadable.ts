// Which failures mean that the bytes themselves are lost, as opposed to the way to them.
import { EngineError } from '../errors.ts';

/** A disk, or the server of one, has answered that it cannot read this. A lost connection is no such answer. */
export function isUnreadable(error: unknown): boolean {
  if (!(error instanceof EngineError) || error.context.op === 'reconnect') return false;
  return error.kind === 'corrupt' || (error.kind === 'io' && error.context.errno === 'EIO');
}
