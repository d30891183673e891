// One state machine for every kind of job. A kind brings `run` and the four steps of its completion; when
// they are called, and what the caller may ask for in between, is decided here.
//
// Life: created → running ⇄ paused → waiting (done, others of its group are not) → pending (all are done;
// finalize) → concluded → null (dismissed). A failure or a cancel goes from any of these to aborting and
// then concluded. `#setState` alone changes the state. Specification: scenario group 2.
import { strict as assert } from 'node:assert';
import type { Clock } from '../clock.ts';
import { RateLimit } from '../copy/rate-limit.ts';
import { EngineError } from '../errors.ts';
import type { JobEvent } from './job-event.ts';
import { JobGroup } from './job-group.ts';
import { acceptsVerb, type JobState, type JobVerb, mayChange } from './job-state.ts';

export interface JobOptions {
  id: string;
  clock: Clock;
  /** 0: no limit. */
  speedBytesPerSecond?: number;
  /** False: waits in `pending` for the finalize verb. Default true. */
  autoFinalize?: boolean;
  /** False: stays listed as `concluded` until the dismiss verb. Default true. */
  autoDismiss?: boolean;
  /** Jobs of one group succeed or fail together. Default: a group of its own. */
  group?: JobGroup;
}

/** Current ≤ total at rest; the total may change while the job runs (scenario INV-8). */
export interface JobProgress {
  currentBytes: number;
  totalBytes: number;
  /** Payload sent to the target. */
  sentBytes: number;
}

export interface JobInfo extends JobProgress {
  id: string;
  type: string;
  state: JobState;
  error: EngineError | undefined;
  startedAtMs: number | undefined;
  finishedAtMs: number | undefined;
}

export abstract class Job {
  abstract readonly type: string;
  readonly id: string;
  readonly autoFinalize: boolean;
  readonly autoDismiss: boolean;
  readonly group: JobGroup;
  /** Set by JobRegistry. */
  onEvent: (event: JobEvent) => void = () => {};
  protected readonly clock: Clock;
  protected readonly rate: RateLimit;
  readonly #cancel = new AbortController();
  #state: JobState = 'created';
  #error: EngineError | undefined;
  #userPaused = false;
  #committing = false;
  #wakePaused: (() => void)[] = [];
  #wakeRate = new AbortController();
  #startedAtMs: number | undefined;
  #finishedAtMs: number | undefined;
  readonly #concluded = Promise.withResolvers<void>();

  constructor(options: JobOptions) {
    validateJobId(options.id);
    this.id = options.id;
    this.clock = options.clock;
    this.autoFinalize = options.autoFinalize ?? true;
    this.autoDismiss = options.autoDismiss ?? true;
    this.rate = new RateLimit(options.clock);
    this.rate.setSpeed(validateSpeed(options.speedBytesPerSecond ?? 0));
    this.group = options.group ?? new JobGroup();
    this.group.add(this);
  }

  /** Does the work; resolves when all of it is done, rejects with why it is not. */
  protected abstract run(): Promise<void>;
  /** The last step that may fail; a failure aborts the whole group. */
  protected async prepare(): Promise<void> {}
  protected async commit(): Promise<void> {}
  protected async abort(): Promise<void> {}
  /** After commit or abort: gives back everything the job holds. */
  protected async clean(): Promise<void> {}
  /** Makes `run` end soon, also when the target hangs. */
  protected onCancel(): void {}
  abstract progress(): JobProgress;

  get state(): JobState {
    return this.#state;
  }

  get error(): EngineError | undefined {
    return this.#error;
  }

  get cancelled(): boolean {
    return this.#cancel.signal.aborted;
  }

  /** Resolves once the job is concluded, whatever came of it. */
  get concluded(): Promise<void> {
    return this.#concluded.promise;
  }

  info(): JobInfo {
    return {
      id: this.id,
      type: this.type,
      state: this.#state,
      error: this.#error,
      startedAtMs: this.#startedAtMs,
      finishedAtMs: this.#finishedAtMs,
      ...this.progress(),
    };
  }

  start(): void {
    this.#startedAtMs = this.clock.wallMs();
    this.#setState('running');
    void this.#execute();
  }

  // Verbs. Each throws kind `conflict` in a state that does not accept it.

  /** Only requests; `concluded` tells when it is over. */
  cancel(): void {
    this.assertVerb('cancel');
    this.cancelInternally();
  }

  pause(): void {
    this.assertVerb('pause');
    if (this.#userPaused) throw new EngineError('conflict', `Job '${this.id}' is already paused`);
    this.#userPaused = true;
    this.#wakeRate.abort();
  }

  resume(): void {
    this.assertVerb('resume');
    if (!this.#userPaused) {
      throw new EngineError('conflict', `Can't resume job '${this.id}': it was not paused`);
    }
    this.#userPaused = false;
    for (const wake of this.#wakePaused.splice(0)) wake();
  }

  setSpeed(bytesPerSecond: number): void {
    this.assertVerb('set-speed');
    this.rate.setSpeed(validateSpeed(bytesPerSecond));
    this.#wakeRate.abort();
    this.#wakeRate = new AbortController();
  }

  /** Finalizes the whole group. */
  finalize(): void {
    this.assertVerb('finalize');
    void this.group.finalize();
  }

  dismiss(): void {
    this.assertVerb('dismiss');
    this.#setState('null');
  }

  assertVerb(verb: JobVerb): void {
    if (acceptsVerb(this.#state, verb)) return;
    const text = `Job '${this.id}' in state '${this.#state}' cannot accept command verb '${verb}'`;
    throw new EngineError('conflict', text);
  }

  // For kinds of job, inside run().

  /** Waits while the user has paused the job; rejects with kind `cancelled` when it is to end. */
  protected async pausePoint(): Promise<void> {
    this.#throwIfCancelled();
    if (!this.#userPaused) return;
    this.#setState('paused');
    while (this.#userPaused && !this.cancelled) {
      await new Promise<void>(wake => this.#wakePaused.push(wake));
    }
    this.#setState('running');
    this.#throwIfCancelled();
  }

  /** Counts bytes against the speed limit and waits as long as it says, less when speed or state change. */
  protected async throttle(bytes: number): Promise<void> {
    const waitMs = this.rate.account(bytes);
    if (waitMs > 0)
      await this.clock.sleep(waitMs, AbortSignal.any([this.#cancel.signal, this.#wakeRate.signal]));
  }

  // For JobGroup.

  /** Without effect once the group commits: the job then ends as it would have. */
  cancelInternally(): void {
    if (this.cancelled || this.#committing) return;
    this.#cancel.abort();
    for (const wake of this.#wakePaused.splice(0)) wake();
    if (this.#state === 'created') {
      void this.fail(cancelledError(this.id));
      return;
    }
    this.onCancel();
    if (this.#state === 'waiting' || this.#state === 'pending') void this.fail(cancelledError(this.id));
  }

  enterPending(): void {
    this.#setState('pending');
    if (!this.autoFinalize) this.onEvent({ type: 'job-pending', jobId: this.id });
  }

  prepareForGroup(): Promise<void> {
    return this.prepare();
  }

  /** Every member is prepared: from here on nobody can turn it back. */
  beginCommit(): void {
    this.#committing = true;
  }

  async succeed(): Promise<void> {
    await this.commit();
    await this.clean();
    this.#conclude('job-completed');
  }

  async fail(error: EngineError): Promise<void> {
    this.#error ??= error;
    this.#setState('aborting');
    this.group.failed(this);
    await this.abort();
    await this.clean();
    this.#conclude(this.cancelled ? 'job-cancelled' : 'job-completed');
  }

  async #execute(): Promise<void> {
    try {
      await this.run();
      this.#throwIfCancelled();
    } catch (cause) {
      await this.fail(this.cancelled ? cancelledError(this.id) : asEngineError(cause));
      return;
    }
    this.#setState('waiting');
    this.group.memberDone();
  }

  #conclude(type: 'job-completed' | 'job-cancelled'): void {
    this.#finishedAtMs = this.clock.wallMs();
    const started = this.#startedAtMs !== undefined;
    if (started) this.onEvent({ type, jobId: this.id, error: this.#error, ...this.progress() });
    this.#setState('concluded');
    if (this.autoDismiss || !started) this.#setState('null');
    this.#concluded.resolve();
  }

  #throwIfCancelled(): void {
    if (this.cancelled) throw cancelledError(this.id);
  }

  #setState(state: JobState): void {
    assert(mayChange(this.#state, state), `job ${this.id} cannot go from ${this.#state} to ${state}`);
    if (this.#state === state) return;
    this.#state = state;
    this.onEvent({ type: 'job-status', jobId: this.id, state });
  }
}

function cancelledError(id: string): EngineError {
  return new EngineError('cancelled', `Job '${id}' was cancelled`);
}

function asEngineError(cause: unknown): EngineError {
  return cause instanceof EngineError ? cause : new EngineError('io', String(cause), {}, cause);
}

/** A letter, then letters, digits, `-`, `.`, `_`. */
export function validateJobId(id: string): void {
  if (!/^[A-Za-z][A-Za-z0-9\-._]*$/.test(id))
    throw new EngineError('invalid-argument', `Invalid job ID '${id}'`);
}

function validateSpeed(bytesPerSecond: number): number {
  if (Number.isSafeInteger(bytesPerSecond) && bytesPerSecond >= 0) return bytesPerSecond;
  throw new EngineError(
    'invalid-argument',
    `Speed ${bytesPerSecond} must be 0 or a positive number of bytes per second`,
  );
}
