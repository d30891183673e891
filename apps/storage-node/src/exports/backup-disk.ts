// An export of a repository, on this or another storage node, as a disk: what a backup is copied to, and what a restore
// reads. A network that is away for seconds costs time only.
import { type Clock, EngineError } from '@tidemark/engine';
import { NBD_CONNECT_TIMEOUT_MS } from '../limits.ts';
import { NbdDriver } from './nbd-driver.ts';
import { ReconnectingNode } from './reconnecting-node.ts';

export interface BackupDiskOptions {
  readonly readOnly: boolean;
  readonly clock: Clock;
  /** How long requests wait for a connection that was lost; 0: they fail at once. */
  readonly reconnectMs: number;
  /** As `NbdDriverOptions` have it. */
  readonly dataWhereUnknown?: boolean;
}

/** Rejects as `NbdDriver.open` does: the first connection is not waited for. */
export async function openBackupDisk(uri: string, options: BackupDiskOptions): Promise<ReconnectingNode> {
  const { readOnly, clock, reconnectMs: reconnectDelayMs, dataWhereUnknown = false } = options;
  const connect = (signal: AbortSignal) => NbdDriver.open(uri, { readOnly, dataWhereUnknown, signal });
  const first = await connect(AbortSignal.timeout(NBD_CONNECT_TIMEOUT_MS));
  return ReconnectingNode.of(first, { connect, reconnectDelayMs, clock, isFinal });
}

/** Exports of backups have names that nobody has twice: one that is not known any more does not come back. */
function isFinal(error: unknown): boolean {
  return error instanceof EngineError && error.kind === 'not-found';
}
