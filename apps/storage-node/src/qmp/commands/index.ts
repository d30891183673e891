// Every command of the monitor.
import type { QmpCommand } from '../command.ts';
import { backupCommands } from './backup.ts';
import { bitmapCommands } from './bitmaps.ts';
import { blockNodeCommands } from './block-nodes.ts';
import { changeBackingFileCommands } from './change-backing-file.ts';
import { commitCommands } from './commit.ts';
import { createCommands } from './create.ts';
import { exportCommands } from './exports.ts';
import { fleeceCommands } from './fleece.ts';
import { internalSnapshotCommands } from './internal-snapshots.ts';
import { jobCommands } from './jobs.ts';
import { mirrorCommands } from './mirror.ts';
import { monitorCommands } from './monitor.ts';
import { objectCommands } from './objects.ts';
import { snapshotCommands } from './snapshots.ts';
import { streamCommands } from './stream.ts';
import { transactionCommands } from './transaction.ts';

const groups: readonly (readonly QmpCommand[])[] = [
  exportCommands,
  fleeceCommands,
  objectCommands,
  monitorCommands(() => qmpCommands),
  jobCommands,
  blockNodeCommands,
  backupCommands,
  changeBackingFileCommands,
  commitCommands,
  mirrorCommands,
  streamCommands,
  bitmapCommands,
  snapshotCommands,
  internalSnapshotCommands,
  createCommands,
  transactionCommands,
];

export const qmpCommands: ReadonlyMap<string, QmpCommand> = new Map(
  groups.flat().map(command => [command.name, command]),
);
