// What a kind of run consists of: ordered steps, each good to repeat, each with what undoes it.
import type { Catalog, CatalogTransaction, JsonObject, Run, RunFacts } from '@tidemark/catalog';
import { type RunRequest, type RunRequestKind, type StepContext, TidemarkError } from '@tidemark/proto';
import type { z } from 'zod';
import type { FailureBudget } from '../failure-budget.ts';
import type { WorkerLimits } from '../limits.ts';
import type { LiveControls } from '../run-controls.ts';
import type { StorageNodes } from '../storage-nodes.ts';

export interface RunContext<K extends RunRequestKind = RunRequestKind> {
  /** As it was when this attempt claimed it. */
  readonly run: Run;
  /** What it may still fail. */
  readonly budget: FailureBudget;
  readonly request: RunRequest<K>;
  readonly catalog: Catalog;
  readonly storageNodes: StorageNodes;
  readonly limits: WorkerLimits;
  /** Names of differences that are never repaired without being asked. */
  readonly reportOnly: ReadonlySet<string>;
  /** Aborts when this worker must let go of the run; every call takes it. */
  readonly stop: AbortSignal;
  /** Aborts when the operator cancels; only what takes long takes it. */
  readonly cancel: AbortSignal;
  /** What the operator wants of the run's job; it may change at any time. */
  readonly controls: LiveControls;
  /** The name under which a storage node remembers its answer to a call of this run. */
  call(step: string): StepContext;
  /** What a step of this or an earlier attempt gave. Throws when it has not been done. */
  output<T>(step: string, schema: z.ZodType<T>): T;
  findOutput<T>(step: string, schema: z.ZodType<T>): T | undefined;
  /** The step was begun, and its outcome never became known. */
  isInDoubt(step: string): boolean;
  /** This attempt has done the step, and nothing has failed or been undone since. */
  isJustDone(step: string): boolean;
  /** Writes facts of the run at once. */
  update(facts: RunFacts): Promise<void>;
}

export interface StepDone {
  /** Kept for later steps, attempts and the undo. */
  output?: JsonObject;
  /** Facts of the run that become true together with the step's end. */
  facts?: RunFacts;
  /** Changes of the catalog that become true together with the step's end. */
  commit?: (catalog: CatalogTransaction) => Promise<void>;
}

export interface Step<K extends RunRequestKind> {
  readonly name: string;
  /** May have been done before, in whole or in part, by an attempt that died: it must come to the same. */
  run(context: RunContext<K>): Promise<StepDone>;
  /** Afterwards nothing of the step is left. The step may not have happened; good to repeat. */
  undo?(context: RunContext<K>): Promise<void>;
  /** From such a step on a cancel request comes too late, but for what the step itself makes of it. */
  readonly final?: boolean;
  /** What is under way or done is too dear to be thrown away for a storage node that is away for a while. */
  readonly patient?: boolean;
  /** Whether the run has the step at all; default: it has. */
  appliesTo?(context: RunContext<K>): boolean;
  /** The run has what it was for by then: when the step fails for good, the run succeeds without it. */
  readonly dispensable?: boolean;
  /** That it has begun says that it may have done something: it is not noted before it really begins. */
  readonly once?: boolean;
}

/**
 * Rejected with by a step: what was done from another step on is of no use any more. It is undone, and the run goes on
 * from there, for the reason given.
 */
export class StartOver extends TidemarkError {
  override name = 'StartOver';
  readonly from: string;

  constructor(from: string, reason: TidemarkError) {
    super(reason.code, reason.message, reason);
    this.from = from;
  }
}

/** Rejected with by a step that has to wait for others: the run is looked at again later, and nothing has failed. */
export class NotYet extends Error {
  override name = 'NotYet';
  readonly delayMs: number;

  constructor(message: string, delayMs: number) {
    super(message);
    this.delayMs = delayMs;
  }
}

export interface RunDefinition<K extends RunRequestKind> {
  readonly steps: readonly Step<K>[];
  /** What the run shows as its result. */
  result(context: RunContext<K>): JsonObject;
  /** Takes back the intent, in the transaction in which the run fails: rows of what never came to be go. */
  withdraw(catalog: CatalogTransaction, context: RunContext<K>): Promise<void>;
}
