// The durable memory of what runs have had done here: newest lease epoch, and the answer of each step.
// A worker that died and came back, or whose answer got lost, repeats its step and is answered as before;
// a worker that was replaced is refused.
//
// One file a run, `runs/RUN.json`. Bounds: LEDGER_RUNS_MAX runs, LEDGER_RUN_AGE_MAX_MS of running since a run was last
// heard of (a clock that is set ahead ages nobody), LEDGER_STEPS_MAX answers a run; what was heard of longest ago is
// forgotten first.
import { type PassPoint, TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { LEDGER_RUN_AGE_MAX_MS, LEDGER_RUNS_MAX, LEDGER_STEPS_MAX, STEP_NAME_LENGTH_MAX } from '../limits.ts';
import { isNoSpace } from './disk-space.ts';
import { ID, isPlainId } from './plain-id.ts';
import { StateFileError, type StateStore } from './state-store.ts';

const FOLDER = 'runs';

const runSchema = z.strictObject({
  version: z.literal(1),
  runId: z.string(),
  newestLeaseEpoch: z.int().nonnegative(),
  heardAtMs: z.int().nonnegative(),
  answers: z.array(z.strictObject({ method: z.string(), step: z.string(), answer: z.base64() })),
});

export interface StepKey {
  readonly runId: string;
  readonly step: string;
  readonly leaseEpoch: number;
}

/**
 * `answer-again`: a step that succeeded is never done a second time; for what must not happen twice.
 * `do-again`: only lease epochs are checked and repeats at the same time joined; for what is good to
 * repeat anyway and whose answer a later step can undo (an export that was closed in between).
 * A repeat of a newer epoch waits for the older one and does not join it: what it asks for may be newer, too.
 */
export type RepeatPolicy = 'answer-again' | 'do-again';

interface Run {
  readonly runId: string;
  newestLeaseEpoch: number;
  /** The newest one that is on disk. */
  storedLeaseEpoch: number | undefined;
  heardAtMs: number;
  /** By `method step`, oldest first. */
  readonly answers: Map<string, Uint8Array>;
  readonly underWay: Map<string, { leaseEpoch: number; answer: Promise<Uint8Array> }>;
}

export class StepLedger {
  readonly #store: StateStore;
  readonly #elapsedMs: () => number;
  /** When this process began, in the time that moments are stored in: it goes on while a storage node runs. */
  #beganMs = 0;
  readonly #report: (problem: { file: string; message: string }) => void;
  readonly #runsMax: number;
  readonly #pass: PassPoint | undefined;
  /** The one heard of longest ago comes first. */
  readonly #runs = new Map<string, Run>();

  constructor(options: {
    store: StateStore;
    /** Milliseconds since any moment, by a clock that nobody sets. */
    elapsedMs: () => number;
    /** Told of a run file that cannot be read; the run is taken for one never heard of. */
    report: (problem: { file: string; message: string }) => void;
    runsMax?: number;
    pass?: PassPoint | undefined;
  }) {
    this.#store = options.store;
    this.#elapsedMs = options.elapsedMs;
    this.#report = options.report;
    this.#runsMax = options.runsMax ?? LEDGER_RUNS_MAX;
    this.#pass = options.pass;
  }

  /** Reads what earlier lives of the process stored. */
  async load(): Promise<void> {
    const runs: Run[] = [];
    for (const name of await this.#store.list(FOLDER)) {
      if (name.startsWith('.') || !name.endsWith('.json')) continue;
      const stored = await this.#read(`${FOLDER}/${name}`);
      if (stored === undefined) continue;
      const answers = stored.answers.map(
        ({ method, step, answer }) => [stepId(method, step), Buffer.from(answer, 'base64')] as const,
      );
      runs.push({
        ...stored,
        storedLeaseEpoch: stored.newestLeaseEpoch,
        answers: new Map(answers),
        underWay: new Map(),
      });
    }
    runs.sort((a, b) => a.heardAtMs - b.heardAtMs);
    this.#beganMs = (runs.at(-1)?.heardAtMs ?? 0) - Math.floor(this.#elapsedMs());
    for (const run of runs) this.#runs.set(run.runId, run);
    await this.#forgetOld();
  }

  /**
   * Does the step once and resolves with its answer. Rejects with `run-superseded` for an older lease
   * epoch and with what `action` rejects with; a failed step is not remembered. Afterwards the answer
   * survives a crash.
   */
  async perform(
    key: StepKey,
    options: { method: string; repeat: RepeatPolicy },
    action: () => Promise<Uint8Array>,
  ): Promise<Uint8Array> {
    checkKey(key);
    const run = this.#hear(key.runId);
    refuseOlder(run, key);
    run.newestLeaseEpoch = key.leaseEpoch;
    const id = stepId(options.method, key.step);
    const before = run.underWay.get(id);
    if (before?.leaseEpoch === key.leaseEpoch) return before.answer;
    // In its place at once: later repeats join this one.
    const answer = afterwards(before?.answer, () => {
      refuseOlder(run, key);
      return this.#once(run, id, options.repeat, action);
    });
    const mine = { leaseEpoch: key.leaseEpoch, answer };
    run.underWay.set(id, mine);
    try {
      return await answer;
    } finally {
      if (run.underWay.get(id) === mine) run.underWay.delete(id);
    }
  }

  /** Forgets the run's answers, not its lease epoch: for a run that undid all it did and may start over. */
  async forgetAnswers(runId: string): Promise<void> {
    const run = this.#runs.get(runId);
    if (run === undefined) return;
    run.answers.clear();
    await this.#save(run);
  }

  /** One damaged file must not keep a storage node from serving its guests. */
  async #read(file: string) {
    try {
      return await this.#store.read(file, runSchema);
    } catch (error) {
      if (!(error instanceof StateFileError)) throw error;
      this.#report({ file, message: error.message });
      return undefined;
    }
  }

  async #once(
    run: Run,
    id: string,
    repeat: RepeatPolicy,
    action: () => Promise<Uint8Array>,
  ): Promise<Uint8Array> {
    // The epoch has to be on disk before anything is done in its name. On a full disk it has to do without:
    // the steps that make room again come here too, and until a crash memory is as good.
    if (run.storedLeaseEpoch !== run.newestLeaseEpoch) await this.#save(run).catch(passNoSpace);
    const isRemembered = repeat === 'answer-again';
    const known = isRemembered ? run.answers.get(id) : undefined;
    if (known !== undefined) return known;
    this.#passed(id, 'begins');
    const answer = await action();
    this.#passed(id, 'done');
    if (!isRemembered) return answer;
    run.answers.set(id, answer);
    for (const oldest of run.answers.keys()) {
      if (run.answers.size <= LEDGER_STEPS_MAX) break;
      run.answers.delete(oldest);
    }
    await this.#save(run);
    this.#passed(id, 'answer stored');
    return answer;
  }

  #passed(id: string, moment: string): void {
    this.#pass?.(`call ${id.slice(id.lastIndexOf('/') + 1).replaceAll(ID, '*')} ${moment}`);
  }

  /** The run, moved to the end of those to be forgotten. */
  #hear(runId: string): Run {
    const known = this.#runs.get(runId);
    const heardAtMs = this.#nowMs();
    const run: Run = known ?? {
      runId,
      newestLeaseEpoch: 0,
      storedLeaseEpoch: undefined,
      heardAtMs,
      answers: new Map(),
      underWay: new Map(),
    };
    run.heardAtMs = heardAtMs;
    this.#runs.delete(runId);
    this.#runs.set(runId, run);
    return run;
  }

  async #save(run: Run): Promise<void> {
    const answers = [...run.answers].map(([id, answer]) => {
      const space = id.indexOf(' ');
      const encoded = Buffer.from(answer).toString('base64');
      return { method: id.slice(0, space), step: id.slice(space + 1), answer: encoded };
    });
    const { runId, newestLeaseEpoch, heardAtMs } = run;
    await this.#store.write(fileName(runId), { version: 1, runId, newestLeaseEpoch, heardAtMs, answers });
    run.storedLeaseEpoch = newestLeaseEpoch;
    await this.#forgetOld();
  }

  #nowMs(): number {
    return Math.max(0, this.#beganMs + Math.floor(this.#elapsedMs()));
  }

  async #forgetOld(): Promise<void> {
    const oldestMs = this.#nowMs() - LEDGER_RUN_AGE_MAX_MS;
    for (const run of this.#runs.values()) {
      if (this.#runs.size <= this.#runsMax && run.heardAtMs >= oldestMs) return;
      if (run.underWay.size > 0) continue;
      this.#runs.delete(run.runId);
      await this.#store.remove(fileName(run.runId));
    }
  }
}

/** However `before` ends. */
async function afterwards<T>(before: Promise<unknown> | undefined, action: () => Promise<T>): Promise<T> {
  return before === undefined ? action() : before.then(action, action);
}

function refuseOlder({ runId, newestLeaseEpoch }: Run, { step, leaseEpoch }: StepKey): void {
  if (leaseEpoch >= newestLeaseEpoch) return;
  throw new TidemarkError(
    'run-superseded',
    `Run ${runId} is at lease epoch ${newestLeaseEpoch} here; step '${step}' of epoch ${leaseEpoch} comes too late. ` +
      'Leave the run to its newer attempt.',
  );
}

function stepId(method: string, step: string): string {
  return `${method} ${step}`;
}

function fileName(runId: string): string {
  return `${FOLDER}/${runId}.json`;
}

function passNoSpace(error: unknown): void {
  if (!isNoSpace(error)) throw error;
}

function checkKey(key: StepKey): void {
  const isStep = key.step.length > 0 && key.step.length <= STEP_NAME_LENGTH_MAX;
  const isEpoch = Number.isSafeInteger(key.leaseEpoch) && key.leaseEpoch >= 0;
  if (isPlainId(key.runId) && isStep && isEpoch) return;
  throw new TidemarkError(
    'invalid-request',
    `A call that changes something needs its run's id, step and lease epoch; got run '${key.runId}', ` +
      `step '${key.step}', epoch ${key.leaseEpoch}.`,
  );
}
