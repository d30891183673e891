// The point in time of a backup, with its checkpoint: one call to the storage node that owns the volume. What it is
// asked for twice it answers as before.
import { type ErrorCode, TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import { beginAnew } from './backup-anew.ts';
import { endBackupJobs, releaseMoment } from './backup-moment.ts';
import { startOfGroup } from './backup-of-group.ts';
import {
  alsoOf,
  discardTarget,
  hasFallenBack,
  justPrepared,
  type Prepared,
  prepare,
  preparedTarget,
} from './backup-target.ts';
import type { RunContext, Step } from './run-definition.ts';
import { tolerate } from './tolerate.ts';

type Context = RunContext<'backup'>;

export const started = z.object({
  jobId: z.string(),
  /** Where that job copies to: of a start that was answered as before, the target of then. */
  targetUri: z.string().default(''),
  pointInTimeMs: z.number(),
  dirtyBytes: z.number(),
  /** Of these: marked only because a crash left it open whether they changed. */
  grownBytes: z.number().default(0),
  /** What was damaged below is sent again. */
  resent: z.array(z.object({ offset: z.number(), length: z.number() })).default([]),
});

export const start: Step<'backup'> = {
  name: 'start',
  async run(context) {
    const { request, run, catalog } = context;
    const backup = await catalog.backups.get(request.backupId);
    const fellBack = hasFallenBack(backup, request.parentBackupId);
    const starting = fellBack ? startFull : startAsAsked;
    const answer = await (request.group ? startOfGroup(context, request.group) : starting(context)).catch(
      async error => {
        if (!(error instanceof TidemarkError) || error.code !== 'job-interrupted') throw error;
        // Its checkpoint was there when the storage node died, and the answer had not left.
        throw await beginAnew(context, error);
      },
    );
    const pointInTime = new Date(answer.pointInTimeMs);
    const { jobId, targetUri, pointInTimeMs, dirtyBytes, grownBytes, resent } = answer;
    const { reason: before } = await catalog.backups.get(request.backupId);
    const reason = { reason: withGrowth(before, grownBytes) };
    return {
      output: { jobId, targetUri, pointInTimeMs, dirtyBytes, grownBytes, resent },
      facts: { checkpointAt: pointInTime, progress: { dirtyBytes }, ...reason },
      commit: async tx => {
        // That of a group is ready already.
        if (!request.group) await tx.checkpoints.markReady(request.checkpointId, pointInTime, run.id);
        await tx.backups.markStarted(request.backupId, { pointInTime, dirtyBytes, ...reason });
      },
    };
  },
  async undo(context) {
    const { request, storageNodes, call, stop } = context;
    const { volumeId, checkpointId } = request;
    if (!request.group) await settleStart(context);
    await endBackupJobs(context, 'undo-start');
    await releaseMoment(context, 'undo-start');
    // The checkpoint is the group's.
    if (request.group) return;
    const { checkpoints } = await storageNodes.ofVolume(volumeId);
    const options = { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
    const merge = checkpoints.deleteCheckpoint({ step: call('undo-start'), volumeId, checkpointId }, options);
    await tolerate(['checkpoint-not-found', 'volume-not-found'], merge);
  },
};

const GROWTH = /; \d+ bytes in doubt since a crash are copied, too/;

/** Once, however often the start is tried; what an earlier point in time had in doubt is not said any more. */
function withGrowth(reason: string, grownBytes: number): string {
  const rest = reason.replace(GROWTH, '');
  return grownBytes > 0 ? `${rest}; ${grownBytes} bytes in doubt since a crash are copied, too` : rest;
}

type StartOptions = { step: string; isFull: boolean; target: Prepared };

async function startBackup(context: Context, { step, isFull, target }: StartOptions) {
  const { request, storageNodes, call, stop } = context;
  const { jobs } = await storageNodes.ofVolume(request.volumeId);
  const also = isFull ? [] : alsoOf(context);
  const answer = await jobs.startBackup(
    {
      step: call(step),
      volumeId: request.volumeId,
      checkpointId: request.checkpointId,
      checkpointName: request.checkpoint,
      checkpointDescription: request.description,
      baseCheckpointId: isFull ? '' : (request.baseCheckpointId ?? ''),
      targetUri: target.uri,
      sumsUri: target.sumsUri,
      speedBytesPerSecond: context.controls.wanted.speedBytesPerSecond ?? request.speedBytesPerSecond ?? 0,
      direct: request.direct,
      onCbwError: request.onCbwError ?? '',
      cbwTimeoutMs: request.cbwTimeoutMs ?? 0,
      scratchLimitBytes: request.scratchLimitBytes ?? 0,
      also,
    },
    { signal: stop },
  );
  return { ...answer, resent: also };
}

/** Falls back to a full backup, and says so, when the changes since the base cannot be known. */
async function startAsAsked(context: Context) {
  const { request, run, catalog } = context;
  const isFull = request.baseCheckpointId === null;
  const known = justPrepared(context);
  try {
    const started = known && startBackup(context, { step: 'start', isFull, target: known });
    return (
      (await started?.catch(unlessAboutTarget)) ??
      // The target is gone if the repository's host has restarted since: this is it, or a new one.
      (await startBackup(context, { step: 'start', isFull, target: await prepare(context) }))
    );
  } catch (error) {
    if (!(error instanceof TidemarkError) || isFull) throw error;
    if (error.code !== 'checkpoint-inconsistent' && error.code !== 'checkpoint-not-found') throw error;
    const reason = `full: the changes since the base checkpoint are not known (${error.message})`;
    await catalog.backups.fallBackToFull(request.backupId, reason, run.id);
    await context.update({ reason });
    return startFull(context);
  }
}

/** What another target would not change, or after which the start may have been carried out. */
const NOT_THE_TARGET: readonly ErrorCode[] = [
  'checkpoint-inconsistent',
  'checkpoint-not-found',
  'internal-error',
  'job-interrupted',
  'run-superseded',
  'storage-node-unreachable',
];

function unlessAboutTarget(error: unknown): undefined {
  if (!(error instanceof TidemarkError) || NOT_THE_TARGET.includes(error.code)) throw error;
}

/**
 * From here on the backup's row says full, so that an attempt that follows takes this way at once. Only the
 * target of the increment is discarded: an earlier attempt's job may be writing to the full one already.
 */
async function startFull(context: Context) {
  const target = await prepare(context, { isFull: true }).catch(async error => {
    if (!(error instanceof TidemarkError) || error.code !== 'backup-not-usable') throw error;
    await discardTarget(context, 'fall-back');
    return prepare(context, { isFull: true });
  });
  return startBackup(context, { step: 'start-full', isFull: true, target });
}

/**
 * An answer was lost: the same call again is answered as it was then, or starts now what is ended right
 * away, or is refused, and then there is no job. Rejects while that cannot be said.
 */
async function settleStart(context: Context): Promise<void> {
  const target = preparedTarget(context);
  if (!context.isInDoubt('start') || target === undefined) return;
  const { request, catalog } = context;
  const backup = await catalog.backups.find(request.backupId);
  const fellBack = backup !== null && hasFallenBack(backup, request.parentBackupId);
  const isFull = fellBack || request.baseCheckpointId === null;
  try {
    await startBackup(context, { step: fellBack ? 'start-full' : 'start', isFull, target });
  } catch (error) {
    if (!(error instanceof TidemarkError) || error.code === 'storage-node-unreachable') throw error;
  }
}
