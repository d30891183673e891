// Drives one run through its steps. An attempt: claim the lease → steps not yet done, in order → succeeded.
// A step that fails for now hands the run back for a later attempt; one that fails for good, one time too
// often, or a cancel request turns the run around: what was begun is undone in reverse, then it has ended.
// What a storage node that is away still holds is undone by later attempts, after the end.
import { CatalogError, type Lease, type Run, type RunError } from '@tidemark/catalog';
import { type PassPoint, type RunPayload, type RunRequestKind, TidemarkError } from '@tidemark/proto';
import type { Logger } from 'pino';
import { isSuperseded, isWorthRetrying, TargetAway, toRunError, WorkerStopping } from './errors.ts';
import { FailureBudget } from './failure-budget.ts';
import { LeaseKeeper } from './lease-keeper.ts';
import { retryDelay, type WorkerLimits } from './limits.ts';
import { createRunContext, type RunServices, type Signals, StepOutcomes } from './run-context.ts';
import { LiveControls } from './run-controls.ts';
import { RUN_DEFINITIONS } from './runs/index.ts';
import { NotYet, type RunContext, type RunDefinition, StartOver, type Step } from './runs/run-definition.ts';

/** How an attempt ended. `left`: nothing to do, or no longer ours to do. */
export type Outcome = 'succeeded' | 'failed' | 'cancelled' | 'cleaned-up' | 'handed-back' | 'left';

/** Told of attempts, for whoever counts them. Must not throw. */
export interface RunObserver {
  claimed(run: Run): void;
  ended(run: Run, outcome: Outcome): void;
}

interface Claim {
  readonly run: Run;
  readonly lease: Lease;
  readonly log: Logger;
}

interface Attempt extends Claim {
  readonly definition: RunDefinition<RunRequestKind>;
  readonly outcomes: StepOutcomes;
  readonly context: RunContext;
}

export class RunExecutor {
  readonly #services: RunServices;
  readonly #owner: string;
  readonly #log: Logger;
  readonly #pass: PassPoint | undefined;
  readonly #observer: RunObserver | undefined;

  constructor(
    services: RunServices,
    options: {
      owner: string;
      log: Logger;
      pass?: PassPoint | undefined;
      observer?: RunObserver | undefined;
    },
  ) {
    this.#services = services;
    this.#observer = options.observer;
    this.#pass = options.pass;
    this.#owner = options.owner;
    this.#log = options.log;
  }

  /**
   * Works on the run until it has ended, or has to wait, or `stop` aborts. Rejects only when the catalog
   * could not be told; the lease runs out then, and another attempt follows.
   */
  async execute({ runId, attempt }: RunPayload, stop: AbortSignal): Promise<Outcome> {
    const { catalog, limits } = this.#services;
    if (stop.aborted) return 'left';
    this.#pass?.('queue job taken');
    const claimedAtMs = performance.now();
    const claim = await catalog.leases.claim(runId, { owner: this.#owner, leaseMs: limits.leaseMs, attempt });
    if (!claim) return 'left';
    const { run, lease } = claim;
    const log = this.#log.child({ runId, kind: run.kind, attempt, epoch: lease.epoch });
    this.#pass?.(`${run.kind} claimed`);
    log.info('run claimed');
    this.#observer?.claimed(run);
    const controls = new LiveControls(run);
    const keeper = new LeaseKeeper(catalog, lease, limits, claimedAtMs, controls);
    keeper.start(run);
    try {
      const signals = { stop: AbortSignal.any([stop, keeper.lost]), cancel: keeper.cancelled, controls };
      const outcome = await this.#attempt({ run, lease, log }, signals);
      log.info({ outcome }, 'run attempt ended');
      this.#observer?.ended(run, outcome);
      return outcome;
    } finally {
      await keeper.close();
    }
  }

  async #attempt(claim: Claim, signals: Signals): Promise<Outcome> {
    let attempt: Attempt | null = null;
    try {
      attempt = this.#prepare(claim, signals);
      if (claim.run.takeovers >= this.#services.limits.takeoversMax) return await this.#giveUp(attempt);
      if (claim.run.cleanupPending) return await this.#cleanUp(attempt);
      if (claim.run.undoing) return await this.#goBack(attempt);
      return await this.#goForward(attempt);
    } catch (error) {
      if (isSuperseded(error)) {
        claim.log.warn({ err: error }, 'run left to a newer attempt');
        return 'left';
      }
      if (!(error instanceof WorkerStopping)) return await this.#stumble(claim, attempt, error);
      await this.#services.catalog.leases.handBack(claim.lease, { delayMs: 0 });
      return 'handed-back';
    }
  }

  /** Throws when the request cannot be read. */
  #prepare(claim: Claim, signals: Signals): Attempt {
    const outcomes = new StepOutcomes(claim.run.steps);
    const context = createRunContext(this.#services, claim, outcomes, signals);
    const definition = RUN_DEFINITIONS[claim.run.kind] as unknown as RunDefinition<RunRequestKind>;
    return { ...claim, definition, outcomes, context };
  }

  /** The run may be what ends its workers: what killed them is not begun again. */
  async #giveUp(attempt: Attempt): Promise<Outcome> {
    const { run, lease, definition, context, log } = attempt;
    const { catalog, limits } = this.#services;
    const error = toRunError(loss(run));
    log.error({ takeovers: run.takeovers, detail: error.message }, 'run given up');
    if (run.cleanupPending) {
      await catalog.leases.finishCleanup(lease, error);
      return 'cleaned-up';
    }
    if (!run.undoing) {
      if (!hasDoneItsWork(attempt)) return this.#turnBack(attempt, error);
      // What is left only tidies up.
      await catalog.leases.finish(lease, { state: 'succeeded', result: definition.result(context) });
      return 'succeeded';
    }
    // Its undoing ends workers, too: the row ends, and what is left is tried as a clean-up, as often again.
    const state = run.error?.code === 'run-cancelled' ? 'cancelled' : 'failed';
    await catalog.transaction(async tx => {
      await tx.leases.finish(lease, { state, error: run.error ?? error, cleanupInMs: retryDelay(limits, 1) });
      await definition.withdraw(tx, context);
    });
    return state;
  }

  /** What no step answers for: a request that cannot be read, a defect, a catalog that failed. */
  async #stumble({ run, lease, log }: Claim, attempt: Attempt | null, thrown: unknown): Promise<Outcome> {
    const { leases } = this.#services.catalog;
    const { limits } = this.#services;
    log.error({ err: thrown }, 'run attempt failed');
    const error = toRunError(thrown);
    const { failures } = attempt?.context.budget ?? new FailureBudget(run);
    if (failures < failuresUntilGivenUp(run, thrown, limits)) {
      await leases.handBack(lease, { delayMs: retryDelay(limits, failures), error });
      return 'handed-back';
    }
    if (run.cleanupPending) {
      await leases.finishCleanup(lease, error);
      return 'cleaned-up';
    }
    if (attempt !== null && !run.undoing && !hasDoneItsWork(attempt)) return this.#turnBack(attempt, error);
    await leases.finish(lease, { state: 'failed', error: run.error ?? error });
    return 'failed';
  }

  async #goForward(attempt: Attempt): Promise<Outcome> {
    const { definition, outcomes, context, lease, run } = attempt;
    const { catalog } = this.#services;
    let begun: string | null = null;
    for (const [index, step] of definition.steps.entries()) {
      if (outcomes.find(step.name)?.state === 'succeeded' || !appliesTo(step, context)) continue;
      context.stop.throwIfAborted();
      // What an earlier attempt knows of the step stays: it may have to be settled before it is undone.
      if (!step.final && context.cancel.aborted) {
        return this.#turnBack(attempt, toRunError(context.cancel.reason));
      }
      if (begun !== step.name) await catalog.leases.startStep(lease, step.name);
      this.#pass?.(`${run.kind} ${step.name} begun`);
      outcomes.set(step.name, { state: 'running', output: null, error: null });
      try {
        begun = await this.#doStep(attempt, step, definition.steps[index + 1]);
      } catch (error) {
        // The signal's reason wins: a call that was cut off by it fails in its own words.
        context.stop.throwIfAborted();
        if (isSuperseded(error)) throw error;
        if (error instanceof NotYet && (step.final || !context.cancel.aborted)) {
          await catalog.leases.handBack(lease, { delayMs: error.delayMs });
          return 'handed-back';
        }
        if (error instanceof StartOver && !context.cancel.aborted) {
          return this.#startOver(attempt, step, error);
        }
        const ended = await this.#failStep(attempt, step, error);
        if (ended !== null) return ended;
      }
    }
    const result = definition.result(context);
    await catalog.leases.finish(lease, { state: 'succeeded', result });
    this.#pass?.(`${run.kind} succeeded`);
    attempt.log.info({ volumeId: run.volumeId, backupId: run.backupId }, 'run succeeded');
    return 'succeeded';
  }

  /** The name of the next step where that has begun with the end of this one; null: it has not. */
  async #doStep(
    { run, outcomes, context, lease, log }: Attempt,
    step: Step<RunRequestKind>,
    following: Step<RunRequestKind> | undefined,
  ): Promise<string | null> {
    const { catalog } = this.#services;
    const { output = {}, facts, commit } = await step.run(context);
    this.#pass?.(`${run.kind} ${step.name} done, not recorded`);
    let next: string | null = null;
    if (facts === undefined && commit === undefined) {
      if (followsAtOnce(following, { outcomes, context })) next = following.name;
      await catalog.leases.finishStep(lease, step.name, output, { next });
    } else {
      await catalog.transaction(async tx => {
        await tx.leases.finishStep(lease, step.name, output);
        if (facts !== undefined) await tx.leases.update(lease, facts);
        await commit?.(tx);
      });
    }
    this.#pass?.(`${run.kind} ${step.name} recorded`);
    context.budget.renew();
    outcomes.set(step.name, { state: 'succeeded', output, error: null });
    log.info({ step: step.name }, 'step done');
    return next;
  }

  /** Null when the run goes on without the step. */
  async #failStep(attempt: Attempt, step: Step<RunRequestKind>, thrown: unknown): Promise<Outcome | null> {
    const { lease, outcomes, context, log } = attempt;
    const { leases } = this.#services.catalog;
    const { limits } = this.#services;
    const error = toRunError(thrown);
    await leases.failStep(lease, step.name, error);
    outcomes.set(step.name, { state: 'failed', output: null, error });
    const { failures } = context.budget;
    const failuresMax = step.patient ? limits.patientFailuresMax : limits.failuresMax;
    // What would have to begin anew is not kept by a step that a cancel request comes too late for.
    const isCancelled = (!step.final || thrown instanceof StartOver) && context.cancel.aborted;
    const isAway = thrown instanceof TargetAway;
    if (!isCancelled && (isAway || (isWorthRetrying(thrown) && failures < failuresMax))) {
      const delayMs = isAway ? thrown.delayMs : retryDelay(limits, failures);
      await leases.handBack(lease, { delayMs, error, ...(isAway && { targetAwayMs: thrown.awayMs }) });
      log.warn({ step: step.name, code: error.code, delayMs, detail: error.message }, 'step failed for now');
      return 'handed-back';
    }
    if (step.dispensable) {
      log.warn({ step: step.name, code: error.code, detail: error.message }, 'run goes on without step');
      return null;
    }
    log.warn({ step: step.name, code: error.code, detail: error.message }, 'step failed');
    return this.#turnBack(attempt, isCancelled ? toRunError(context.cancel.reason) : error);
  }

  /**
   * Noted first, so that it is told whatever comes: an attempt that dies before all is undone finds the step as it
   * was, which then asks for the same again.
   */
  async #startOver(attempt: Attempt, step: Step<RunRequestKind>, cause: StartOver): Promise<Outcome> {
    const { lease, outcomes, log, definition } = attempt;
    const { leases } = this.#services.catalog;
    const error = toRunError(cause);
    await leases.failStep(lease, step.name, error);
    outcomes.set(step.name, { state: 'failed', output: null, error });
    const restarts = await leases.startOver(lease, { step: cause.from, error });
    attempt.context.budget.renew();
    log.warn(
      { step: step.name, from: cause.from, code: error.code, detail: error.message },
      'run starts over',
    );
    const first = definition.steps.findIndex(({ name }) => name === cause.from);
    const failure = await this.#undoSteps(attempt, definition.steps.slice(first));
    if (failure !== null) return this.#failAgain(attempt, failure);
    const run = { ...attempt.run, restarts };
    return this.#goForward({ ...attempt, run, context: { ...attempt.context, run } });
  }

  /** Hands the run back, or turns it around where that was often enough. */
  async #failAgain(attempt: Attempt, error: RunError): Promise<Outcome> {
    const { lease, context } = attempt;
    const { limits } = this.#services;
    const { failures } = context.budget;
    if (failures >= limits.patientFailuresMax) return this.#turnBack(attempt, error);
    const delayMs = retryDelay(limits, failures);
    await this.#services.catalog.leases.handBack(lease, { delayMs, error });
    return 'handed-back';
  }

  async #turnBack(attempt: Attempt, cause: RunError): Promise<Outcome> {
    attempt.log.warn({ code: cause.code, detail: cause.message }, 'run turns back');
    await this.#services.catalog.leases.beginUndo(attempt.lease, cause);
    this.#pass?.(`${attempt.run.kind} turned back`);
    return this.#goBack({ ...attempt, run: { ...attempt.run, error: cause } });
  }

  async #goBack(attempt: Attempt): Promise<Outcome> {
    const { run, lease, definition, context, log } = attempt;
    const { catalog, limits } = this.#services;
    const failure = await this.#undoSteps(attempt, attempt.definition.steps);
    const error = run.error ?? toRunError(new Error('the reason was not kept'));
    const state = error.code === 'run-cancelled' ? 'cancelled' : 'failed';
    await catalog.transaction(async tx => {
      const cleanup = failure === null ? {} : { cleanupInMs: retryDelay(limits, 1) };
      await tx.leases.finish(lease, { state, error, ...cleanup });
      await definition.withdraw(tx, context);
    });
    this.#pass?.(`${run.kind} withdrawn`);
    log.info({ code: error.code, cleanupPending: failure !== null }, `run ${state}`);
    return state;
  }

  async #cleanUp(attempt: Attempt): Promise<Outcome> {
    const { lease, context, log } = attempt;
    const { catalog, limits } = this.#services;
    const failure = await this.#undoSteps(attempt, attempt.definition.steps);
    const { failures } = context.budget;
    if (failure === null || failures >= limits.cleanupsMax) {
      await catalog.leases.finishCleanup(lease, failure);
      log.info({ left: failure }, 'run cleaned up');
      return 'cleaned-up';
    }
    await catalog.leases.handBack(lease, { delayMs: retryDelay(limits, failures), error: failure });
    return 'handed-back';
  }

  /** Undoes what was begun, in reverse, as far as it goes; the first failure, if any was left. */
  async #undoSteps(
    { run, outcomes, context, lease, log }: Attempt,
    steps: readonly Step<RunRequestKind>[],
  ): Promise<RunError | null> {
    let failure: RunError | null = null;
    for (const step of steps.toReversed()) {
      const outcome = outcomes.find(step.name);
      if (outcome === undefined || outcome.state === 'undone') continue;
      try {
        context.stop.throwIfAborted();
        await undo(step, context);
        this.#pass?.(`${run.kind} ${step.name} undone, not recorded`);
        await this.#services.catalog.leases.markUndone(lease, step.name);
        this.#pass?.(`${run.kind} ${step.name} undone`);
        outcomes.set(step.name, { ...outcome, state: 'undone' });
        log.info({ step: step.name }, 'step undone');
      } catch (error) {
        context.stop.throwIfAborted();
        if (isSuperseded(error)) throw error;
        failure ??= toRunError(error);
        log.warn({ step: step.name, err: error }, 'step not undone yet');
      }
    }
    return failure;
  }
}

function loss({ id, kind, takeovers }: Run): TidemarkError {
  return new TidemarkError(
    'run-loses-workers',
    `The ${kind} run ${id} was given up: ${takeovers} workers in a row went silent with it, without any progress in ` +
      'between. Look at how they ended (their logs, the memory they had), then ask for it again.',
  );
}

/** A step whose volume or storage node has left the catalog meanwhile has nothing that could be reached. */
async function undo(step: Step<RunRequestKind>, context: RunContext): Promise<void> {
  try {
    await step.undo?.(context);
  } catch (error) {
    if (!(error instanceof CatalogError) || error.kind !== 'not-found') throw error;
  }
}

/** All that is left could be left out. */
function hasDoneItsWork({ definition, outcomes, context }: Attempt): boolean {
  const isDone = (name: string) => outcomes.find(name)?.state === 'succeeded';
  return definition.steps.every(step => step.dispensable || isDone(step.name) || !appliesTo(step, context));
}

const appliesTo = (step: Step<RunRequestKind>, context: RunContext): boolean =>
  step.appliesTo?.(context) ?? true;

/** Not where what has just been done decides whether it does, nor where it must not cost what has been done. */
function followsAtOnce(
  step: Step<RunRequestKind> | undefined,
  { outcomes, context }: Pick<Attempt, 'outcomes' | 'context'>,
): step is Step<RunRequestKind> {
  if (step === undefined || step.dispensable || step.once || step.appliesTo !== undefined) return false;
  const isDone = outcomes.find(step.name)?.state === 'succeeded';
  return !isDone && !context.stop.aborted && !context.cancel.aborted;
}

function failuresUntilGivenUp(run: Run, thrown: unknown, limits: WorkerLimits): number {
  if (run.cleanupPending) return limits.cleanupsMax;
  return isWorthRetrying(thrown) ? limits.patientFailuresMax : limits.failuresMax;
}
