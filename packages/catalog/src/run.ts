// A run: one execution of an operator's request, as rows of the catalog tell it.
import type { RunModel, RunStepModel } from './generated/models.ts';

export const RUN_KINDS = [
  'register-storage-node',
  'remove-storage-node',
  'create-volume',
  'delete-volume',
  'move-volume',
  'drain-storage-node',
  'recover-storage-node',
  'create-checkpoint',
  'delete-checkpoint',
  'update-checkpoint',
  'redefine-checkpoints',
  'create-snapshot',
  'commit',
  'finish-commit',
  'create-repository',
  'scan-repository',
  'delete-repository',
  'verify',
  'backup',
  'export',
  'restore',
  'prune',
  'reconcile',
  'repair-difference',
  'audit',
  'replicate',
  'create-group',
  'delete-group',
] as const;

export type RunKind = (typeof RUN_KINDS)[number];
export type RunState = 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled';
export type RunStepState = 'running' | 'succeeded' | 'failed' | 'undone';
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

export interface RunError {
  /** A code of the error catalogue. */
  code: string;
  message: string;
}

export interface RunProgress {
  currentBytes: number;
  totalBytes: number;
  /** Payload that went to the target. */
  sentBytes: number;
  /** What the job has to look at: the whole disk, or what changed. */
  dirtyBytes: number;
}

export interface RunStep {
  name: string;
  state: RunStepState;
  /** What later steps and the undo need to know; null until the step succeeded. */
  output: JsonObject | null;
  error: RunError | null;
  startedAt: Date;
  finishedAt: Date | null;
}

export interface Run {
  id: string;
  kind: RunKind;
  state: RunState;
  /** Its place among runs that wait: 0 before all others, then the lower number first. */
  priority: number;
  /** Hand-overs to the queue, from 1. */
  attempt: number;
  /** Retryable failures so far. */
  failures: number;
  /** Those since its last progress: a step that succeeded, bytes that moved, a new beginning. */
  failuresInARow: number;
  /** For how long attempts found the storage node that it copies to away, since its last progress. */
  targetAwayMs: number;
  /** How often it was taken over from a worker that went silent, since its last progress. */
  takeovers: number;
  /** How often it has begun anew from an earlier step. */
  restarts: number;
  storageNodeId: string | null;
  volumeId: string | null;
  checkpointId: string | null;
  repositoryId: string | null;
  backupId: string | null;
  progress: RunProgress;
  reason: string | null;
  /** Who asked for it: the name of an API token, or of what in the system did. */
  requestedBy: string;
  request: JsonObject;
  result: JsonObject | null;
  error: RunError | null;
  cancelRequested: boolean;
  pauseRequested: boolean;
  finishRequested: boolean;
  /** As last asked for; 0: no limit; null: as the request has it. */
  speedBytesPerSecond: number | null;
  undoing: boolean;
  cleanupPending: boolean;
  leaseOwner: string | null;
  leaseEpoch: number;
  leaseUntil: Date | null;
  notBefore: Date | null;
  /** When the run had reached its point in time. */
  checkpointAt: Date | null;
  createdAt: Date;
  startedAt: Date | null;
  finishedAt: Date | null;
  /** In the order in which they first started. */
  steps: RunStep[];
}

/** What an operator wants of a run's job, beside its end. */
export type RunControls = Pick<Run, 'pauseRequested' | 'finishRequested' | 'speedBytesPerSecond'>;

export function hasEnded(run: Pick<Run, 'state'>): boolean {
  return run.state === 'succeeded' || run.state === 'failed' || run.state === 'cancelled';
}

export const withSteps = { steps: { orderBy: { position: 'asc' } } } as const;

function toStep(row: RunStepModel): RunStep {
  return {
    name: row.name,
    state: row.state as RunStepState,
    output: row.output as JsonObject | null,
    error: row.error as RunError | null,
    startedAt: row.startedAt,
    finishedAt: row.finishedAt,
  };
}

export function toRun(row: RunModel & { steps: RunStepModel[] }): Run {
  const { currentBytes, totalBytes, sentBytes, dirtyBytes, speedBytesPerSecond, ...rest } = row;
  return {
    ...rest,
    kind: row.kind as RunKind,
    state: row.state as RunState,
    progress: {
      currentBytes: Number(currentBytes),
      totalBytes: Number(totalBytes),
      sentBytes: Number(sentBytes),
      dirtyBytes: Number(dirtyBytes),
    },
    speedBytesPerSecond: speedBytesPerSecond === null ? null : Number(speedBytesPerSecond),
    request: row.request as JsonObject,
    result: row.result as JsonObject | null,
    error: row.error as RunError | null,
    steps: row.steps.map(toStep),
  };
}
