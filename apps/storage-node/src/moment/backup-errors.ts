// What the end of a backup's job means to those who asked for the backup.
import { type EngineError, type Job, MomentJob } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { nbdPlace } from '../exports/nbd-place.ts';
import { momentLost } from './moment.ts';

export interface EndOfJob {
  readonly job: Job;
  readonly volumeName: string;
  readonly targetUri: string;
  /** Why the moment is lost; undefined while it is whole. */
  readonly broken?: EngineError | undefined;
}

/** The job's error in better words where there are any; undefined for a job that succeeded. */
export function explainEnd({ job, volumeName, targetUri, broken }: EndOfJob): unknown {
  const { error } = job;
  if (error === undefined) return undefined;
  if (broken !== undefined) return momentLost(volumeName, broken);
  const side = job instanceof MomentJob ? job.failedSide : undefined;
  if (side === 'source') return error;
  // On a backup's target "no space" means the repository, on this or another host, not this disk.
  if (isNoSpace(error)) return repositoryFull(error);
  if (side === undefined) return error;
  const place = nbdPlace(targetUri);
  const copy = `The copy of volume '${volumeName}' to the repository at ${place}`;
  const text = `${copy} failed: ${error.message}. Continue it.`;
  return new TidemarkError('io-error', text, error);
}

function repositoryFull(error: EngineError): TidemarkError {
  const text =
    `The repository has no room left: ${error.message}. ` +
    'Free space there or raise its limit, then back up again.';
  return new TidemarkError('repository-full', text, error);
}

function isNoSpace(error: EngineError): boolean {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if ((cause as { context?: { errno?: string } }).context?.errno === 'ENOSPC') return true;
  }
  return false;
}
