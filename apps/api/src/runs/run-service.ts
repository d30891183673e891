// Runs: looking at them, waiting for them, asking them to stop.
import { type Catalog, CatalogError, type CatalogTransaction, type Run, steerGroup } from '@tidemark/catalog';
import { isErrorCode, TidemarkError } from '@tidemark/proto';
import type { z } from 'zod';
import { ProblemError } from '../errors.ts';
import { idOf, momentOf } from '../filters.ts';
import type { RunJson, runQuery, WaitQuery } from '../schemas/run.ts';
import { endingOf } from './ending.ts';
import { toRunJson } from './run-json.ts';
import type { RunWaits, Waiter } from './run-waits.ts';

const ENDED: readonly Run['state'][] = ['succeeded', 'failed', 'cancelled'];

/** Runs whose job can stand still, and be given a speed. */
const WITH_JOB: readonly string[] = ['backup', 'restore', 'commit', 'prune', 'verify', 'audit', 'replicate'];
/** Of several jobs, each of a run of its own: those of the backups of its members. */
const WITH_JOBS = 'create-group';
/** Runs that go on until somebody says so. */
const ENDLESS: readonly string[] = ['export'];

/** The volume of an instant restore whose rest is being pulled; null for any other run. */
function instantVolumeInUse({ request, state, checkpointAt }: Run): string | null {
  if (ENDED.includes(state) || checkpointAt === null) return null;
  const { instant } = (request.target ?? {}) as { instant?: { name: string } };
  return instant?.name ?? null;
}

/** What a run that did not succeed is answered with. */
function failureOf(run: Run): ProblemError {
  const extra = { runId: run.id };
  const ending = endingOf(run);
  if (ending !== null) return new ProblemError('run-cancelled', ending, extra);
  const code = run.error?.code;
  if (run.error && code !== undefined && isErrorCode(code) && code !== 'internal-error') {
    return new ProblemError(code, run.error.message, extra);
  }
  const text = `The ${run.kind} run ${run.id} failed inside. Look for it in the log of the worker.`;
  return new ProblemError('internal-error', text, extra);
}

/** Resolves when there is news, the time is up, or it is stopped. */
async function until(news: Promise<void>, { deadline, stop }: { deadline: number; stop: AbortSignal }) {
  if (stop.aborted) return;
  let end = () => {};
  const over = new Promise<void>(resolve => {
    end = resolve;
  });
  const timer = setTimeout(end, Math.max(0, deadline - performance.now()));
  stop.addEventListener('abort', end, { once: true });
  await Promise.race([news, over]);
  clearTimeout(timer);
  stop.removeEventListener('abort', end);
}

export class RunService {
  readonly #catalog: Catalog;
  readonly #waits: RunWaits;
  readonly #closing = new AbortController();

  constructor(catalog: Catalog, waits: RunWaits) {
    this.#catalog = catalog;
    this.#waits = waits;
  }

  /** Newest first, without steps left out: a run is small. */
  async list(query: z.output<typeof runQuery>) {
    const { volume, storageNode, repository, since, until, ...rest } = query;
    const { volumes, storageNodes, repositories } = this.#catalog;
    const { items, nextCursor } = await this.#catalog.runs.list({
      ...rest,
      volumeId: await idOf(volume, volumes),
      storageNodeId: await idOf(storageNode, storageNodes),
      repositoryId: await idOf(repository, repositories),
      since: momentOf(since),
      until: momentOf(until),
    });
    return { items: items.map(toRunJson), nextCursor };
  }

  async get(id: string): Promise<RunJson> {
    return toRunJson(await this.#catalog.runs.get(id));
  }

  /**
   * Asks the run to stop; it is undone by its worker. Rejects `run-ended` and, for an instant restore whose volume
   * can be used already, `run-not-controllable`.
   */
  async cancel(id: string): Promise<RunJson> {
    const volume = instantVolumeInUse(await this.#catalog.runs.get(id));
    if (volume !== null) {
      const text =
        `Run ${id} only pulls the rest of what volume '${volume}' reads from its backup, and the volume is in use: ` +
        `it cannot be undone any more. Delete volume '${volume}' instead, which ends the run, too.`;
      throw new TidemarkError('run-not-controllable', text);
    }
    return toRunJson(await this.#catalog.runs.requestCancel(id));
  }

  /** Rejects `run-ended` and, for a run without a job, `run-not-controllable`. Of a group's: all of its copies. */
  pause(id: string): Promise<RunJson> {
    return this.#steer(id, 'paused', ({ runs }, run) => runs.requestPause(run, true));
  }

  resume(id: string): Promise<RunJson> {
    return this.#steer(id, 'resumed', ({ runs }, run) => runs.requestPause(run, false));
  }

  /** 0: no limit. Of a group's: of each of its copies. */
  setSpeed(id: string, bytesPerSecond: number): Promise<RunJson> {
    return this.#steer(id, 'sped up or held back', ({ runs }, run) => runs.requestSpeed(run, bytesPerSecond));
  }

  async #steer(
    id: string,
    what: string,
    ask: (catalog: Pick<CatalogTransaction, 'runs'>, runId: string) => Promise<Run>,
  ): Promise<RunJson> {
    const run = await this.#catalog.runs.get(id);
    if (run.kind !== WITH_JOBS) {
      return this.#ask(id, WITH_JOB, what, () => ask(this.#catalog, id));
    }
    return toRunJson(await this.#catalog.transaction(tx => steerGroup(tx, run, one => ask(tx, one))));
  }

  finish(id: string): Promise<RunJson> {
    return this.#ask(id, ENDLESS, 'finished', () => this.#catalog.runs.requestFinish(id));
  }

  async #ask(
    id: string,
    kinds: readonly string[],
    what: string,
    request: () => Promise<Run>,
  ): Promise<RunJson> {
    const { kind } = await this.#catalog.runs.get(id);
    if (kinds.includes(kind)) return toRunJson(await request());
    throw new TidemarkError(
      'run-not-controllable',
      `Run ${id} is of kind '${kind}' and cannot be ${what}; that is for runs of kind ${kinds.join(', ')}. Wait ` +
        'for its end, or cancel it.',
    );
  }

  /**
   * Returns the run as soon as it is where `wait` says: at its point in time, or succeeded. Rejects with the
   * run's own failure, or with `wait-timed-out` and leaves the run alone. When `signal` is aborted, the
   * caller is gone and gets the run as it was last seen.
   */
  async waitFor(started: RunJson, { wait, waitTimeoutMs }: WaitQuery, signal: AbortSignal): Promise<RunJson> {
    const deadline = performance.now() + waitTimeoutMs;
    const stop = AbortSignal.any([signal, this.#closing.signal]);
    let wake = () => {};
    // Heard from before the first look on: what happens in between is not missed.
    let news = new Promise<void>(resolve => {
      wake = resolve;
    });
    const waiter = {
      runId: started.id,
      until: wait === 'checkpoint' ? wait : 'done',
      wake: () => wake(),
    } as const;
    this.#enter(waiter, started);
    try {
      for (;;) {
        const run = await this.#lookAt(started);
        if (run.state === 'succeeded') return toRunJson(run);
        if (ENDED.includes(run.state)) throw failureOf(run);
        if (wait === 'checkpoint' && run.checkpointAt && !run.error) return toRunJson(run);
        if (performance.now() >= deadline) throw this.#stillGoingOn(run, waitTimeoutMs);
        await until(news, { deadline, stop });
        if (signal.aborted) return toRunJson(run);
        if (this.#closing.signal.aborted) throw this.#stillGoingOn(run, waitTimeoutMs);
        news = new Promise(resolve => {
          wake = resolve;
        });
      }
    } finally {
      this.#waits.remove(waiter);
    }
  }

  /** The run was accepted by then: a caller that finds no room learns which it is. */
  #enter(waiter: Waiter, { id, kind }: RunJson): void {
    try {
      this.#waits.add(waiter);
    } catch (error) {
      if (!(error instanceof TidemarkError)) throw error;
      const text = `${error.message} The ${kind} run ${id} was accepted; follow it with GET /v1/runs/${id}.`;
      throw new ProblemError(error.code, text, { runId: id }, error);
    }
  }

  /** A caller that is refused while it waits still learns which run it has started. */
  async #lookAt({ id, kind }: RunJson): Promise<Run> {
    try {
      return await this.#catalog.runs.get(id);
    } catch (error) {
      if (!(error instanceof CatalogError) || !isErrorCode(error.code)) throw error;
      const text = `${error.message} The ${kind} run ${id} was accepted; follow it with GET /v1/runs/${id}.`;
      throw new ProblemError(error.code, text, { runId: id }, error);
    }
  }

  /** Ends every wait, so that the service can stop; the runs go on. */
  stopWaiting(): void {
    this.#closing.abort();
  }

  #stillGoingOn(run: Run, waitTimeoutMs: number): ProblemError {
    const why = this.#closing.signal.aborted ? 'the api service is stopping' : `after ${waitTimeoutMs} ms`;
    const text =
      `The ${run.kind} run ${run.id} is ${run.state} (${why}) and goes on. Follow ` +
      `it with GET /v1/runs/${run.id}.`;
    return new ProblemError('wait-timed-out', text, { runId: run.id });
  }
}
