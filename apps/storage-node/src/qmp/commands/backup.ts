// `blockdev-backup` and `drive-backup`, as commands and as actions of a transaction.
import {
  BACKUP_SYNC_MODES,
  type BackupAction,
  BITMAP_MODES,
  ON_CBW_ERROR,
  ON_ERROR,
  runTransaction,
  startBackup,
  type TransactionAction,
} from '@tidemark/engine';
import { z } from 'zod';
import { backingOf, openBackupTarget } from '../../blockdev/backup-target.ts';
import { int64, size, uint32 } from '../arguments.ts';
import { defineCommand, type QmpCommand } from '../command.ts';
import type { StorageDaemon } from '../storage-daemon.ts';

/** What QEMU starts with where nothing is said. */
const WORKERS_DEFAULT = 64;

/** In QAPI's order, which is the order in which faults are found; our own additions last. */
const backupArguments = {
  'job-id': z.string().optional(),
  device: z.string(),
  sync: z.enum(BACKUP_SYNC_MODES),
  speed: int64.optional(),
  bitmap: z.string().optional(),
  'bitmap-mode': z.enum(BITMAP_MODES).optional(),
  compress: z.boolean().optional(),
  'on-source-error': z.enum(ON_ERROR).optional(),
  'on-target-error': z.enum(ON_ERROR).optional(),
  'auto-finalize': z.boolean().optional(),
  'auto-dismiss': z.boolean().optional(),
  'filter-node-name': z.string().optional(),
  'x-perf': z
    .strictObject({
      'use-copy-range': z.boolean().optional(),
      'max-workers': int64.optional(),
      'max-chunk': int64.optional(),
      'min-cluster-size': size.optional(),
    })
    .optional(),
};

const ownArguments = {
  'discard-source': z.boolean().optional(),
  'on-cbw-error': z.enum(ON_CBW_ERROR).optional(),
  'cbw-timeout': uint32.optional(),
  /** Ours: what guests read is copied on the way. */
  'x-tidemark-feed-from-reads': z.boolean().optional(),
};

export const blockdevBackupArguments = z.strictObject({
  ...backupArguments,
  target: z.string(),
  ...ownArguments,
});

export const driveBackupArguments = z.strictObject({
  ...backupArguments,
  target: z.string(),
  format: z.string().optional(),
  mode: z.enum(['existing', 'absolute-paths']).optional(),
  ...ownArguments,
});

export type BlockdevBackupArguments = z.output<typeof blockdevBackupArguments>;

/** A job without an id is refused when the action is prepared: block nodes have no name that it could take. */
export function blockdevBackupAction(args: BlockdevBackupArguments, daemon: StorageDaemon): BackupAction {
  const perf = args['x-perf'] ?? {};
  return startBackup({
    id: args['job-id'] ?? '',
    clock: daemon.clock,
    jobs: daemon.jobs,
    source: args.device,
    target: args.target,
    sync: args.sync,
    speedBytesPerSecond: args.speed ?? 0,
    speedCountsZeroes: true,
    bitmap: args.bitmap,
    bitmapMode: args['bitmap-mode'],
    compressed: args.compress,
    onSourceError: args['on-source-error'],
    onTargetError: args['on-target-error'],
    autoFinalize: args['auto-finalize'] ?? true,
    autoDismiss: args['auto-dismiss'] ?? true,
    filterNodeName: args['filter-node-name'],
    copyRange: perf['use-copy-range'],
    workers: perf['max-workers'] ?? WORKERS_DEFAULT,
    chunkBytesMax: perf['max-chunk'],
    minClusterBytes: perf['min-cluster-size'],
    discardSource: args['discard-source'],
    onCbwError: args['on-cbw-error'] ?? 'break-guest-write',
    cbwTimeoutMs: (args['cbw-timeout'] ?? 0) * 1000,
    feedFromReads: args['x-tidemark-feed-from-reads'],
    // Whoever made the target may have made it of anything.
    targetIsZero: false,
  });
}

/**
 * The target is made or opened first, and goes with the job. A backup of the top layer alone of an image without a
 * backing image is a full one.
 */
export function driveBackupAction(
  { target: filename, format, mode, ...args }: z.output<typeof driveBackupArguments>,
  daemon: StorageDaemon,
): TransactionAction {
  return {
    kind: 'drive-backup',
    groupable: true,
    nodes: graph => (graph.has(args.device) ? [graph.get(args.device)] : []),
    async prepare(graph, staged, context) {
      const source = graph.get(args.device);
      source.assertNotBlocked();
      const sync = args.sync === 'top' && backingOf(source) === undefined ? 'full' : args.sync;
      const below = sync === 'top' ? 'backing' : sync === 'none' ? 'source' : 'nothing';
      const create = mode !== 'existing';
      const target = await openBackupTarget({ filename, format, create, source, below }, daemon);
      try {
        const backup = blockdevBackupAction({ ...args, sync, target: target.node.name }, daemon);
        const prepared = await backup.prepare(graph, staged, context);
        return {
          commit: () => {
            prepared.commit?.();
            void target.keep().catch(() => undefined);
          },
          abort: async () => {
            await prepared.abort?.();
            await target.takeBack();
          },
        };
      } catch (error) {
        await target.takeBack();
        throw error;
      }
    },
  };
}

export const backupCommands: readonly QmpCommand[] = [
  defineCommand({
    name: 'blockdev-backup',
    arguments: blockdevBackupArguments,
    run: (args, daemon) => runTransaction(daemon.graph, [blockdevBackupAction(args, daemon)]),
  }),
  defineCommand({
    name: 'drive-backup',
    arguments: driveBackupArguments,
    run: (args, daemon) => runTransaction(daemon.graph, [driveBackupAction(args, daemon)]),
  }),
];
