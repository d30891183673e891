// A run as the API shows it.
import type { Run, RunStep } from '@tidemark/catalog';
import { iso, isoOrNull } from '../moments.ts';
import type { RunJson } from '../schemas/run.ts';
import { endingOf } from './ending.ts';

/** What a call that starts a run has to show: the run, and the noun that it is about. */
export type StartedRun<Noun extends object = object> = Noun & { run: RunJson };

function toStepJson(step: RunStep): RunJson['steps'][number] {
  return {
    name: step.name,
    state: step.state,
    startedAt: isoOrNull(step.startedAt),
    finishedAt: isoOrNull(step.finishedAt),
    error: step.error,
  };
}

export function toRunJson(run: Run): RunJson {
  return {
    id: run.id,
    kind: run.kind,
    state: run.state,
    attempt: run.attempt,
    restarts: run.restarts,
    paused: run.pauseRequested,
    cancelRequested: run.cancelRequested,
    finishRequested: run.finishRequested,
    undoing: run.undoing,
    cleanupPending: run.cleanupPending,
    speedBytesPerSecond: run.speedBytesPerSecond,
    volumeId: run.volumeId,
    backupId: run.backupId,
    checkpointId: run.checkpointId,
    progress: run.progress,
    reason: run.reason,
    requestedBy: run.requestedBy,
    request: run.request,
    result: run.result,
    error: run.error,
    ending: endingOf(run),
    checkpointAt: isoOrNull(run.checkpointAt),
    createdAt: iso(run.createdAt),
    startedAt: isoOrNull(run.startedAt),
    finishedAt: isoOrNull(run.finishedAt),
    steps: run.steps.map(toStepJson),
  };
}
