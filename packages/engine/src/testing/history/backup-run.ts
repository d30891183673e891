// One backup of a history, from the transaction that starts it to its last event, with what guests, operators
// and faults do meanwhile.
import { EngineError } from '../../errors.ts';
import { PERMISSION } from '../../graph/permissions.ts';
import type { BackupJob } from '../../job/backup-job.ts';
import { type BackupAction, startBackup } from '../../transaction/backup-action.ts';
import { StagedBitmaps } from '../../transaction/staged-bitmaps.ts';
import type { TransactionAction } from '../../transaction/transaction.ts';
import { SeededRandom } from '../seeded-random.ts';
import { granulesIn } from './bitmap-checks.ts';
import { CopyWatch, clustersOf } from './copy-watch.ts';
import type { CopyingBackupStep, DuringStep } from './copying.ts';
import { GateNode, type GateRequest } from './gate-node.ts';
import { DISK_BYTES, HISTORY_CLUSTER_BYTES } from './history.ts';
import { JobWatch } from './job-watch.ts';
import { granulesOf, type ModelBitmap } from './model.ts';
import { Violation } from './verdict.ts';
import { DISK, type World } from './world.ts';

/** The job has its filter and its bitmap, without any doubt. */
const LIVE = ['running', 'paused', 'waiting', 'pending'];

export class BackupRun {
  readonly target: GateNode;
  /** From the job's start on. */
  copy: CopyWatch | undefined;
  readonly #world: World;
  readonly #step: CopyingBackupStep;
  readonly #name: string;
  readonly #watch: JobWatch;
  readonly #random: SeededRandom;
  /** What goes wrong once. */
  #armed: GateRequest['operation'] | undefined;
  #job: BackupJob | undefined;
  #holds = false;
  #faults = 0;
  #late = false;
  #cancelled = false;
  #finalizing = false;

  constructor(world: World, step: CopyingBackupStep, name: string) {
    this.#world = world;
    this.#step = step;
    this.#name = name;
    this.#random = new SeededRandom(step.copying.order);
    this.#armed = step.fault === 'none' ? undefined : step.fault;
    this.target = new GateNode(DISK_BYTES, {
      arrived: request => this.copy?.arrived(request),
      ended: (request, failed) => this.copy?.ended(request, failed),
    });
    this.target.cancels = step.copying.cancels;
    const onTerminal = () => this.copy?.terminal(this.target.held);
    this.#watch = new JobWatch({ id: name, verdict: world.verdict, onTerminal });
  }

  /** Throws a Violation. */
  async play(): Promise<void> {
    const world = this.#world;
    const { copying } = this.#step;
    for (const request of copying.lead) world.requests.begin(request);
    world.graph.add({ name: this.#targetName }, () => this.target);
    world.source.lateStatus = copying.lateStatus;
    world.backup = this;
    const unsubscribe = world.jobs.subscribe(({ event }) => this.#watch.event(event));
    if (await this.#start()) {
      await this.#during();
      await this.#finish();
      this.#judge();
    }
    await world.drive(this.#random, () => world.requests.count === 0);
    unsubscribe();
    world.source.lateStatus = false;
    world.backup = undefined;
    await world.graph.remove(this.#targetName);
    world.check();
  }

  /** Block nodes that may be there because of it. */
  get nodes(): string[] {
    return this.#watch.over ? [this.#targetName] : [this.#targetName, this.#filterName];
  }

  /** Something went wrong that guests may be told of. */
  get guestMayFail(): boolean {
    return this.#faults > 0 || this.#late;
  }

  /** Whether the request fails. */
  errs(gate: GateNode, { operation }: GateRequest, fails: boolean): boolean {
    const armed = this.copy !== undefined && operation === this.#armed;
    const errs = fails || (armed && (gate === this.target) === (operation === 'write'));
    if (errs) this.#faults++;
    if (errs && armed) this.#armed = undefined;
    return errs;
  }

  /** Nothing is under way: perhaps it waits for somebody. */
  nudge(): void {
    if (this.#job?.info().userPaused === true) this.#job.resume();
  }

  /** What holds between any two steps (INV-8, INV-9). Throws a Violation. */
  check(): void {
    const { graph, guest } = this.#world;
    const filter = graph.has(this.#filterName);
    const above = guest.edge.node.name;
    if (this.#isLive) {
      if (!filter) throw new Violation(9, 'the filter is gone while its job runs');
      if (above !== this.#filterName)
        throw new Violation(9, `the guest writes to '${above}', past the filter`);
    } else if (this.copy === undefined || this.#watch.over) {
      if (filter && this.copy !== undefined) throw new Violation(9, 'the filter outlives its job');
      if (above !== DISK) throw new Violation(9, `the guest is left above '${above}'`);
    }
    if (this.copy === undefined || this.#job === undefined) return;
    const atLeast = this.copy.copied.size;
    const bytes = (clusters: number): number => clusters * HISTORY_CLUSTER_BYTES;
    const atMost = bytes(atLeast + this.copy.uncertain.size);
    this.#watch.progress(this.#job, { atLeast: bytes(atLeast), atMost });
  }

  /**
   * The engine gives the bitmap back somewhere between the last verb and the terminal event: where it has, the
   * model follows (INV-5, INV-12).
   */
  noticeRelease(): void {
    const { verdict, graph, model, chains } = this.#world;
    const { name } = this.#step;
    const bitmap = this.#holds ? graph.get(DISK).bitmaps.find(name!) : undefined;
    if (bitmap === undefined || bitmap.busy) return;
    this.#holds = false;
    if (this.#isLive) verdict.report(5, `bitmap ${name} is not busy while its job is ${this.#watch.state}`);
    const { error, cancelled } = this.#job!;
    const copy = this.copy!;
    const failed = error !== undefined && !cancelled;
    // Where all of it was copied and none of it is certain, the engine may keep every bit.
    const all = this.#unsure || (error !== undefined && copy.uncopied.size === copy.uncertain.size);
    const uncopied = all ? copy.wanted : copy.uncopied;
    const before = { ...model.bitmaps.get(name!)! };
    model.endBackup(this.#step, { failed, cancelled, uncopied });
    const { dirty } = model.bitmaps.get(name!)!;
    const actual = granulesIn(bitmap.bits);
    const kept = this.#mode === 'always' || (this.#mode === 'on-success' && error === undefined);
    if (error !== undefined) {
      const partly = this.#mode === 'always';
      const least = partly ? this.#leastOf(before) : [...dirty!];
      const lost = least.find(granule => !actual.has(granule));
      if (lost !== undefined) verdict.report(12, `a failed job takes granule ${lost} from bitmap ${name}`);
      if (partly && [...actual].every(granule => dirty!.has(granule))) model.adopt(name!, actual);
    }
    const clusters = kept && !this.#unsure ? [...copy.copied, ...copy.uncertain] : [];
    chains.keep(name!, this.#targetBytes(), clusters);
  }

  /** A flush failed, or had no answer for so long that the job gave it up: no copy is certain to last. */
  get #unsure(): boolean {
    return this.copy!.flushFailed || this.target.held.some(({ operation }) => operation === 'flush');
  }

  /** What must stay dirty although the target is kept: what is not on it, or not for certain. */
  #leastOf({ granularity, dirty, since }: ModelBitmap): number[] {
    const copy = this.copy!;
    const missing = new Set(this.#unsure ? copy.wanted : copy.uncopied);
    for (const cluster of copy.uncertain) missing.delete(cluster);
    const anew = this.#step.backup === 'full' || this.#step.backup === 'top';
    const granules = [...granulesOf(missing, granularity)!].filter(granule => anew || dirty!.has(granule));
    return [...granules, ...since!];
  }

  get #targetName(): string {
    return `${this.#name}-target`;
  }

  get #filterName(): string {
    return `${this.#name}-filter`;
  }

  get #mode() {
    return this.#step.backup === 'incremental' ? 'on-success' : this.#step.mode;
  }

  get #isLive(): boolean {
    const ending = this.#finalizing || this.#cancelled;
    return this.copy !== undefined && !ending && LIVE.includes(this.#watch.state ?? '');
  }

  #action(id: string): BackupAction {
    const { copying, policy, backup, name, mode } = this.#step;
    const onError = copying.stops ? 'stop' : policy;
    return startBackup({
      id,
      clock: this.#world.clock,
      jobs: this.#world.jobs,
      source: DISK,
      target: this.#targetName,
      filterNodeName: `${id}-filter`,
      sync: backup,
      bitmap: name,
      bitmapMode: mode,
      onCbwError: copying.onCbwError,
      cbwTimeoutMs: copying.cbwTimeoutMs,
      targetIsZero: copying.targetIsZero,
      workers: copying.workers,
      chunkBytesMax: copying.chunkBytes,
      feedFromReads: copying.feedFromReads,
      onSourceError: onError,
      onTargetError: onError,
      autoFinalize: false,
    });
  }

  /** Returns whether it was let in; a bitmap that is not trusted keeps it out (INV-10). */
  async #start(): Promise<boolean> {
    const world = this.#world;
    const action = this.#action(this.#name);
    const moment: TransactionAction = {
      kind: 'moment',
      nodes: () => [],
      prepare: () => ({ commit: () => this.#begin() }),
    };
    const ended = world.begin([moment, action]);
    await world.drive(this.#random, () => {
      this.#job ??= action.job;
      return ended() !== undefined;
    });
    const { refusal } = ended()!;
    if (refusal !== undefined && !(refusal instanceof EngineError)) throw refusal;
    const { name } = this.#step;
    const trusted = name === undefined || !world.model.bitmaps.get(name)!.inconsistent;
    if (trusted && refusal !== undefined) throw new Violation('model', `no backup: ${refusal.message}`);
    if (!trusted && refusal === undefined) throw new Violation(10, `a backup trusts bitmap ${name}`);
    if (refusal === undefined) return true;
    if (world.graph.has(this.#filterName)) throw new Violation(6, 'a refused backup leaves its filter');
    if (world.jobs.find(this.#name)) throw new Violation(6, 'a refused backup leaves its job');
    return false;
  }

  /** The point in time: nothing is in flight, and all that follows comes after it. */
  #begin(): void {
    const { model, chains, verdict } = this.#world;
    const { backup, name, copying } = this.#step;
    const all = clustersOf({ offset: 0, length: DISK_BYTES });
    const bitmap = name === undefined ? undefined : model.bitmaps.get(name)!;
    const some = () =>
      [...bitmap!.dirty!].flatMap(index =>
        clustersOf({ offset: index * bitmap!.granularity, length: bitmap!.granularity }),
      );
    const wanted = new Set(backup === 'full' || backup === 'top' ? all : some());
    const frozen = Buffer.from(model.bytes);
    const { targetIsZero } = copying;
    this.copy = new CopyWatch({ verdict, frozen, wanted, targetIsZero, mayGoAhead: () => this.#mayGoAhead });
    model.startBackup(this.#step);
    if (name === undefined) return;
    chains.freeze(name);
    this.#holds = true;
  }

  get #mayGoAhead(): boolean {
    const broken = this.#step.copying.onCbwError === 'break-snapshot' && this.guestMayFail;
    return broken || this.#cancelled || !LIVE.includes(this.#watch.state ?? '');
  }

  async #during(): Promise<void> {
    const world = this.#world;
    let transaction: (() => boolean) | undefined;
    for (const step of this.#step.copying.during) {
      if ('transaction' in step) transaction ??= world.beginTransaction(step);
      else if (!('bitmap' in step) || transaction === undefined) await this.#act(step);
      await world.settle();
      if (transaction?.() === true) transaction = undefined;
      this.#checkRefusals();
    }
    if (transaction !== undefined) await world.drive(this.#random, transaction);
  }

  async #act(step: Exclude<DuringStep, { transaction: unknown }>): Promise<void> {
    const world = this.#world;
    if ('release' in step) world.release(step.release, step.fails);
    else if ('verb' in step) this.#verb(step.verb);
    else if ('bitmap' in step) world.bitmap(step);
    else if ('waitMs' in step) {
      this.#late ||= this.#step.copying.cbwTimeoutMs > 0;
      await world.clock.advance(step.waitMs);
    } else world.requests.begin(step);
  }

  #verb(verb: 'pause' | 'resume' | 'cancel' | 'finalize'): void {
    const cancelled = this.#cancelled;
    if (verb === 'cancel') this.#cancelled = true;
    try {
      this.#job![verb]();
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      // The state does not accept it.
      this.#cancelled = cancelled;
    }
  }

  /** What the job has, nobody else may have (INV-5, INV-9). */
  #checkRefusals(): void {
    const { bitmaps, graph } = this.#world;
    if (!this.#isLive) return;
    const { name } = this.#step;
    const another = () => this.#action('another').prepare(graph, new StagedBitmaps(), { group: undefined });
    if (name !== undefined) bitmaps.checkRefusals(name, 'busy', { 'another backup': another });
    try {
      graph.attach(DISK, { user: 'another writer', uses: PERMISSION.write });
    } catch (error) {
      if (error instanceof EngineError && error.kind === 'conflict') return;
      throw error;
    }
    throw new Violation(9, 'another writer is let in below the filter');
  }

  async #finish(): Promise<void> {
    const world = this.#world;
    await world.drive(this.#random, () => ['pending', 'null'].includes(this.#job!.state));
    if (this.#job!.state === 'pending') {
      for (const request of this.#step.pending) {
        world.requests.begin(request);
        await world.settle();
      }
      this.#finalizing = this.#step.end === 'finalize';
      this.#verb(this.#step.end);
    }
    await world.drive(this.#random, () => this.#job!.state === 'null');
  }

  /** The job is over (INV-1, INV-5). */
  #judge(): void {
    const { verdict, jobs } = this.#world;
    const { error, cancelled } = this.#job!;
    const copy = this.copy!;
    this.#watch.end(jobs.find(this.#name) !== undefined);
    if (this.#holds) verdict.report(5, `bitmap ${this.#step.name} is busy after its job`);
    if (cancelled !== this.#cancelled) verdict.report('model', 'the job was cancelled by nobody, or was not');
    const reason = cancelled || this.guestMayFail;
    if (error !== undefined && !reason)
      verdict.report('model', `it fails without a reason: ${error.message}`);
    if (error === undefined) {
      if (copy.flushFailed) verdict.report(12, 'it succeeds although its flush failed');
      if (copy.givenUp) verdict.report(1, 'it succeeds although a guest was let past its copy');
      const expected = Buffer.alloc(DISK_BYTES);
      for (const cluster of copy.wanted) {
        const start = cluster * HISTORY_CLUSTER_BYTES;
        copy.frozen.copy(expected, start, start, start + HISTORY_CLUSTER_BYTES);
      }
      if (!this.#targetBytes().equals(expected)) verdict.report(1, 'the target is not the disk at its start');
    }
    verdict.assertClean();
  }

  #targetBytes(): Buffer {
    const bytes = Buffer.alloc(DISK_BYTES);
    this.target.memory.read(0, bytes);
    return bytes;
  }
}
