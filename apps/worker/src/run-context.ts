// The context in which a run's steps execute: what it keeps of their outcomes, and how they call out.
import type { Catalog, JsonObject, Lease, Run, RunStep } from '@tidemark/catalog';
import { ERROR_CODES, isErrorCode, parseRunRequest, type RunRequestKind } from '@tidemark/proto';
import type { z } from 'zod';
import { FailureBudget } from './failure-budget.ts';
import type { WorkerLimits } from './limits.ts';
import type { LiveControls } from './run-controls.ts';
import type { RunContext } from './runs/run-definition.ts';
import type { StorageNodes } from './storage-nodes.ts';

/** What is the same for every run of a worker. */
export interface RunServices {
  readonly catalog: Catalog;
  readonly storageNodes: StorageNodes;
  readonly limits: WorkerLimits;
  /** Names of differences that are never repaired without being asked. */
  readonly reportOnly: ReadonlySet<string>;
}

export interface Signals {
  readonly controls: LiveControls;
  readonly stop: AbortSignal;
  readonly cancel: AbortSignal;
}

/** State and output of each step so far, kept up to date by the executor. */
export class StepOutcomes {
  readonly #steps: Map<string, Pick<RunStep, 'state' | 'output' | 'error'>>;
  /** By this attempt, since the last failure. */
  readonly #done = new Set<string>();

  constructor(steps: readonly RunStep[]) {
    this.#steps = new Map(steps.map(step => [step.name, step]));
  }

  set(name: string, outcome: Pick<RunStep, 'state' | 'output' | 'error'>): void {
    this.#steps.set(name, outcome);
    if (outcome.state === 'succeeded') this.#done.add(name);
    else if (outcome.state !== 'running') this.#done.clear();
  }

  find(name: string): Pick<RunStep, 'state' | 'output' | 'error'> | undefined {
    return this.#steps.get(name);
  }

  output(name: string): JsonObject | undefined {
    return this.#steps.get(name)?.output ?? undefined;
  }

  isJustDone(name: string): boolean {
    return this.#done.has(name);
  }

  /** It was begun, and neither an answer nor a definite refusal came; also when it is undone since. */
  isInDoubt(name: string): boolean {
    const step = this.#steps.get(name);
    if (step === undefined || step.output !== null || step.state === 'succeeded') return false;
    if (step.state === 'running' || step.error === null) return true;
    const { code } = step.error;
    if (!isErrorCode(code)) return false;
    // A defect may have come after the call was carried out, here or there.
    return code === 'internal-error' || ERROR_CODES[code].retryable;
  }
}

/** Throws when the row's request was not written by the contract. */
export function createRunContext(
  services: RunServices,
  { run, lease }: { run: Run; lease: Lease },
  outcomes: StepOutcomes,
  signals: Signals,
): RunContext {
  const findOutput = <T>(step: string, schema: z.ZodType<T>): T | undefined => {
    const output = outcomes.output(step);
    return output && schema.parse(output);
  };
  const budget = new FailureBudget(run);
  return {
    ...services,
    ...signals,
    run,
    budget,
    request: parseRunRequest(run.kind as RunRequestKind, run.request),
    call: step => ({ runId: run.id, step, leaseEpoch: lease.epoch }),
    findOutput,
    output: (step, schema) => {
      const output = findOutput(step, schema);
      if (output === undefined) throw new Error(`Run ${run.id} has no output of step '${step}' yet.`);
      return output;
    },
    isJustDone: step => outcomes.isJustDone(step),
    isInDoubt: step => outcomes.isInDoubt(step),
    update: async facts => {
      await services.catalog.leases.update(lease, facts);
      if (facts.goesOn) budget.renew();
    },
  };
}
