// `transaction`: several actions at one instant, or none of them.
import { abortTransaction, COMPLETION_MODES, runTransaction, type TransactionAction } from '@tidemark/engine';
import { z } from 'zod';
import { defineCommand, type QmpCommand } from '../command.ts';
import type { StorageDaemon } from '../storage-daemon.ts';
import {
  blockdevBackupAction,
  blockdevBackupArguments,
  driveBackupAction,
  driveBackupArguments,
} from './backup.ts';
import { bitmapActions } from './bitmaps.ts';
import { fleeceAction, fleeceArguments } from './fleece.ts';
import { internalSnapshotAction, internalSnapshotArguments } from './internal-snapshots.ts';
import { snapshotAction, snapshotArguments, snapshotSyncAction, snapshotSyncArguments } from './snapshots.ts';

interface Action {
  type: string;
  data: unknown;
}

/** How each type of action is made of its data. */
const makers = new Map<string, (data: never, daemon: StorageDaemon) => TransactionAction>([
  ...bitmapActions.map(({ type, make }) => [type, make] as const),
  ['abort', abortTransaction],
  ['blockdev-backup', blockdevBackupAction],
  ['drive-backup', driveBackupAction],
  ['fleece', fleeceAction],
  ['blockdev-snapshot', snapshotAction],
  ['blockdev-snapshot-sync', snapshotSyncAction],
  ['blockdev-snapshot-internal-sync', internalSnapshotAction],
]);

const bitmapShapes = bitmapActions.map(({ type, data }) => z.strictObject({ type: z.literal(type), data }));

const action = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('abort'), data: z.strictObject({}) }),
  z.strictObject({ type: z.literal('blockdev-backup'), data: blockdevBackupArguments }),
  z.strictObject({ type: z.literal('drive-backup'), data: driveBackupArguments }),
  z.strictObject({ type: z.literal('fleece'), data: fleeceArguments }),
  z.strictObject({ type: z.literal('blockdev-snapshot'), data: snapshotArguments }),
  z.strictObject({ type: z.literal('blockdev-snapshot-sync'), data: snapshotSyncArguments }),
  z.strictObject({ type: z.literal('blockdev-snapshot-internal-sync'), data: internalSnapshotArguments }),
  ...bitmapShapes,
]);

export const transactionCommands: readonly QmpCommand[] = [
  defineCommand({
    name: 'transaction',
    arguments: z.strictObject({
      actions: z.array(action),
      properties: z.strictObject({ 'completion-mode': z.enum(COMPLETION_MODES).optional() }).optional(),
    }),
    run: ({ actions, properties }, daemon) =>
      runTransaction(
        daemon.graph,
        (actions as Action[]).map(({ type, data }) => makers.get(type)!(data as never, daemon)),
        { completionMode: properties?.['completion-mode'] ?? 'individual' },
      ),
  }),
];
