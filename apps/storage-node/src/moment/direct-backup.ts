// A backup without a scratch: what guests are about to overwrite goes to the target itself, over the network. It
// takes no space here, and whatever fails at the target ends it.
import {
  type BackupAction,
  type BackupJob,
  type OnCbwError,
  startBackup,
  type WaitHistogram,
} from '@tidemark/engine';
import type { JobRunner } from '../host/job-runner.ts';
import { CBW_TIMEOUT_MS } from '../limits.ts';
import type { Volume } from '../volume/volume.ts';
import type { CheckpointRecord } from '../volume/volume-record.ts';
import type { BackupTarget } from './backup-target.ts';
import { chooseContents, type DiskRange } from './moment-actions.ts';

export interface DirectBackupOptions {
  readonly jobs: JobRunner;
  readonly jobId: string;
  readonly target: BackupTarget;
  readonly checkpoint: CheckpointRecord;
  /** Bitmaps of what is copied; undefined: all of the disk is. */
  readonly baseNames: readonly string[] | undefined;
  readonly also: readonly DiskRange[];
  readonly onCbwError: OnCbwError;
  /** 0: CBW_TIMEOUT_MS. */
  readonly cbwTimeoutMs: number;
  readonly speedBytesPerSecond: number;
  readonly waits: WaitHistogram;
}

/** The point in time lies between call and end; the job runs then. Rejects with nothing changed. */
export async function startDirectBackup(volume: Volume, options: DirectBackupOptions): Promise<BackupJob> {
  const { jobs, jobId, target, checkpoint, baseNames, also } = options;
  const { node } = volume;
  const targetIsZero = baseNames === undefined && (await target.readsAsZeroes());
  const contents = `contents-${checkpoint.checkpointId}`;
  const backup: BackupAction = startBackup({
    id: jobId,
    clock: jobs.clock,
    jobs: jobs.registry,
    source: node.name,
    target: target.name,
    speedBytesPerSecond: options.speedBytesPerSecond,
    onCbwError: options.onCbwError,
    cbwTimeoutMs: options.cbwTimeoutMs || CBW_TIMEOUT_MS,
    targetIsZero,
    waits: options.waits,
    ...(baseNames && { bitmap: contents, bitmapMode: 'never' as const }),
  });
  const choice = baseNames ? [chooseContents({ node, name: contents, union: baseNames, also })] : [];
  const undo = async () => {
    backup.job!.cancelInternally();
    await backup.job!.concluded;
  };
  await volume.addCheckpoint(checkpoint, { actions: [...choice, backup], undo });
  return backup.job!;
}
