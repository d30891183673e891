// One state machine for every kind of job. A kind brings `run` and the four steps of its completion; when
// they are called, and what the caller may ask for in between, is decided here.
//
// Life: created → running ⇄ paused → waiting (done, others of its group are not) → pending (all are done;
// finalize) → concluded → null (dismissed). A kind that keeps going once its goal is reached goes on from
// running to ready ⇄ standby. A failure or a cancel goes from any of these to aborting and then concluded.
// `#setState` alone changes the state. Specification: scenario group 2.
import { strict as assert } from 'node:assert';
import type { Clock } from '../clock.ts';
import { RateLimit } from '../copy/rate-limit.ts';
import { EngineError } from '../errors.ts';
import type { IoStatus } from './error-policy.ts';
import type { JobEvent } from './job-event.ts';
import { JobGroup } from './job-group.ts';
import { type JobOptions, validateJobId, validateSpeed } from './job-options.ts';
import { acceptsVerb, type JobState, type JobVerb, mayChange } from './job-state.ts';
import { Waker } from './waker.ts';

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
  ioStatus: IoStatus;
  /** Somebody has to resume it: a user paused it, or an error did. */
  userPaused: boolean;
  /** Its work is done, and guests wait for the decision about it. */
  holdsGuests: boolean;
  ready: boolean;
  speedBytesPerSecond: number;
  autoFinalize: boolean;
  autoDismiss: boolean;
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
  readonly #rate: RateLimit;
  readonly #waker: Waker;
  #state: JobState = 'created';
  #error: EngineError | undefined;
  #ioStatus: IoStatus = 'ok';
  #cancelled = false;
  #userPaused = false;
  #drains = 0;
  #startedAtMs: number | undefined;
  #finishedAtMs: number | undefined;
  readonly #workEnded = Promise.withResolvers<void>();
  readonly #concluded = Promise.withResolvers<void>();

  constructor(options: JobOptions) {
    validateJobId(options.id);
    this.id = options.id;
    this.clock = options.clock;
    this.autoFinalize = options.autoFinalize ?? true;
    this.autoDismiss = options.autoDismiss ?? true;
    this.#rate = new RateLimit(options.clock);
    this.#rate.setSpeed(validateSpeed(options.speedBytesPerSecond ?? 0));
    this.#waker = new Waker(options.clock);
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
  /** Makes `run` end soon; with `force` also when what it waits for hangs. */
  protected onCancel(_force: boolean): void {}
  /** For kinds that become ready: `complete` was asked for, or with `pivot: false` a soft cancel. */
  protected onComplete?(options: { pivot: boolean }): void;
  abstract progress(): JobProgress;

  get state(): JobState {
    return this.#state;
  }

  /** True for a kind that lets guests stand still from the end of its work until it is finalized. */
  get holdsGuests(): boolean {
    return false;
  }

  /** The first error; it stays until the job is dismissed (scenario CC-08). */
  get error(): EngineError | undefined {
    return this.#error;
  }

  get cancelled(): boolean {
    return this.#cancelled;
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
      ioStatus: this.#ioStatus,
      userPaused: this.#userPaused,
      holdsGuests: this.holdsGuests,
      ready: this.#state === 'ready' || this.#state === 'standby',
      speedBytesPerSecond: this.#rate.bytesPerSecond,
      autoFinalize: this.autoFinalize,
      autoDismiss: this.autoDismiss,
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

  /**
   * Only requests; `concluded` tells when it is over. Without `force` a ready job completes where it stands
   * (no pivot), and requests that hang are waited for.
   */
  cancel(options: { force?: boolean } = {}): void {
    this.assertVerb('cancel');
    const force = options.force ?? true;
    if (!force && this.onComplete !== undefined && this.info().ready) this.onComplete({ pivot: false });
    else this.cancelInternally({ force });
  }

  pause(): void {
    this.assertVerb('pause');
    if (this.#userPaused)
      throw new EngineError('conflict', 'Job is already paused', this.#hint('Resume it.'));
    this.#userPaused = true;
    this.#waker.wake();
  }

  resume(): void {
    if (!this.#userPaused) {
      const hint = this.#hint('It goes on by itself.');
      throw new EngineError('conflict', "Can't resume a job that was not paused", hint);
    }
    this.assertVerb('resume');
    this.#unpause();
  }

  setSpeed(bytesPerSecond: number): void {
    this.assertVerb('set-speed');
    this.#rate.setSpeed(validateSpeed(bytesPerSecond));
    this.#waker.wake();
  }

  /** A ready job ends by taking over what it was made for; one in standby does so once it is resumed. */
  complete(): void {
    this.assertVerb('complete');
    if (this.cancelled || this.onComplete === undefined) {
      throw new EngineError('conflict', `The active block job '${this.id}' cannot be completed`);
    }
    this.onComplete({ pivot: true });
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

  /** Requests of the job have to end now, before `pausePoint` is reached. */
  protected get mustRest(): boolean {
    return this.#cancelled || this.#userPaused || this.#drains > 0;
  }

  /**
   * To be called with no request of the job in flight. Waits while the job is paused or drained; rejects with
   * kind `cancelled` when it is to end.
   */
  protected async pausePoint(): Promise<void> {
    while (this.mustRest) {
      if (this.#userPaused) await this.#rest();
      this.#throwIfCancelled();
      if (this.#drains > 0) await this.untilWoken();
    }
  }

  /** The goal is reached; the job goes on until it is told to end. */
  protected enterReady(): void {
    this.#setState('ready');
    const speedBytesPerSecond = this.#rate.bytesPerSecond;
    const about = { jobId: this.id, jobType: this.type, speedBytesPerSecond };
    this.onEvent({ type: 'job-ready', ...about, ...this.progress() });
  }

  /** Pauses the job as a user would, because of an error. */
  protected stopForError(status: IoStatus): void {
    this.#userPaused = true;
    this.#ioStatus = status;
  }

  /** Counts bytes against the speed limit. */
  protected account(bytes: number): void {
    this.#rate.account(bytes);
  }

  /** How long the speed limit says to wait before sending more. */
  protected get speedDelayMs(): number {
    return this.#rate.account(0);
  }

  /** Resolves after `ms`, or earlier when a verb asks for something. */
  protected sleep(ms: number): Promise<void> {
    return this.#waker.sleep(ms);
  }

  /** Resolves when a verb asks for something, or a kind calls `wake`. */
  protected untilWoken(): Promise<void> {
    return this.#waker.untilWoken();
  }

  protected wake(): void {
    this.#waker.wake();
  }

  protected beginDrain(): void {
    this.#drains++;
    this.#waker.wake();
  }

  protected endDrain(): void {
    this.#drains--;
    this.#waker.wake();
  }

  // For JobGroup, and for those who made the job.

  /**
   * Without effect once the group commits: the job then ends as it would have. Of a concluded job it means to
   * dismiss it (scenario 2.3).
   */
  cancelInternally(options: { force?: boolean } = {}): void {
    if (this.#state === 'concluded') this.#setState('null');
    if (this.#cancelled || this.group.committing) return;
    if (this.#state === 'aborting' || this.#state === 'null') return;
    this.#cancelled = true;
    if (this.#isWorking) this.onCancel(options.force ?? true);
    this.#waker.wake();
    if (!this.#isWorking) void this.group.abort();
  }

  enterPending(): void {
    this.#setState('pending');
    if (!this.autoFinalize) this.onEvent({ type: 'job-pending', jobId: this.id, jobType: this.type });
  }

  prepareForGroup(): Promise<void> {
    return this.prepare();
  }

  async succeed(): Promise<void> {
    await this.#orKeepError(() => this.commit());
    await this.#orKeepError(() => this.clean());
    this.#conclude('job-completed');
  }

  enterAborting(error: EngineError): void {
    this.#error ??= error;
    this.#setState('aborting');
  }

  /** Gives up a job that was never started, as if nobody had asked for it: no terminal event. */
  async discard(): Promise<void> {
    this.group.remove(this);
    this.#setState('null');
    await this.#orKeepError(() => this.clean());
    this.#concluded.resolve();
  }

  /** Waits for the end of the work, undoes what it did, and concludes. */
  async concludeAborted(): Promise<void> {
    if (this.#state === 'concluded' || this.#state === 'null') return;
    if (this.#startedAtMs !== undefined) await this.#workEnded.promise;
    this.enterAborting(cancelledError(this.id));
    await this.#orKeepError(() => this.abort());
    await this.#orKeepError(() => this.clean());
    this.#conclude(this.#cancelled ? 'job-cancelled' : 'job-completed');
  }

  get #isWorking(): boolean {
    return ['running', 'paused', 'ready', 'standby'].includes(this.#state);
  }

  async #execute(): Promise<void> {
    // Not at once: whoever starts it, with others at the same moment, comes to the end of that first.
    await Promise.resolve();
    try {
      await this.run();
      this.#throwIfCancelled();
    } catch (cause) {
      this.enterAborting(this.#cancelled ? cancelledError(this.id) : asEngineError(cause));
      this.#workEnded.resolve();
      void this.group.abort();
      return;
    }
    this.#setState('waiting');
    this.#workEnded.resolve();
    this.group.memberDone();
  }

  async #rest(): Promise<void> {
    const before = this.#state;
    this.#setState(before === 'ready' ? 'standby' : 'paused');
    while (this.#userPaused && !this.#cancelled) await this.untilWoken();
    this.#setState(before);
  }

  #unpause(): void {
    this.#userPaused = false;
    this.#ioStatus = 'ok';
    this.#waker.wake();
  }

  async #orKeepError(step: () => Promise<void>): Promise<void> {
    try {
      await step();
    } catch (cause) {
      this.#error ??= asEngineError(cause);
    }
  }

  #conclude(type: 'job-completed' | 'job-cancelled'): void {
    this.#finishedAtMs = this.clock.wallMs();
    const started = this.#startedAtMs !== undefined;
    const speedBytesPerSecond = this.#rate.bytesPerSecond;
    const about = { jobId: this.id, jobType: this.type, speedBytesPerSecond, error: this.#error };
    if (started) this.onEvent({ type, ...about, ...this.progress() });
    this.#setState('concluded');
    if (this.autoDismiss || !started) this.#setState('null');
    this.#concluded.resolve();
  }

  #throwIfCancelled(): void {
    if (this.#cancelled) throw cancelledError(this.id);
  }

  #hint(next: string): { hint: string } {
    return { hint: `Job '${this.id}' is in state '${this.#state}'. ${next}` };
  }

  #setState(state: JobState): void {
    assert(mayChange(this.#state, state), `job ${this.id} cannot go from ${this.#state} to ${state}`);
    if (this.#state === state) return;
    this.#state = state;
    this.onEvent({ type: 'job-status', jobId: this.id, state });
  }
}

function cancelledError(id: string): EngineError {
  return new EngineError('cancelled', 'Operation canceled', { hint: `Job '${id}' was cancelled.` });
}

function asEngineError(cause: unknown): EngineError {
  return cause instanceof EngineError ? cause : new EngineError('io', String(cause), {}, cause);
}
