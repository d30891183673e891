// Copies a disk in use to a target and keeps it equal until somebody decides: the disk's users move to the target
// (complete), or they stay and the target keeps what it has (soft cancel). `blockdev-mirror`, and the commit of an
// active image, whose target lies below it in its own chain.
//
// Life: copy what is marked → nothing is marked: READY → go on copying what guests write → told to end: guests stand
// still, the rest is copied, the target is flushed → waiting → finalized: guests move or not, and go on.
import type { DirtyBitmap } from '../bitmap/dirty-bitmap.ts';
import type { CopyFailure } from '../copy/block-copy.ts';
import { MirrorCopy } from '../copy/mirror-copy.ts';
import { EngineError, fromSystemError } from '../errors.ts';
import type { CopyMode, Mirror, MirrorTop } from '../filter/mirror-top.ts';
import type { BlockGraph } from '../graph/block-graph.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import type { JobProgress } from './job.ts';
import type { JobOptions } from './job-options.ts';
import type { JobPlace } from './job-place.ts';
import { type ErrorPolicies, PolicyJob } from './policy-job.ts';
import { StandStill } from './stand-still.ts';

export interface MirrorJobOptions extends JobOptions, ErrorPolicies {
  type: 'mirror' | 'commit';
  graph: BlockGraph;
  place: JobPlace;
  filterDriver: MirrorTop;
  source: GraphNode;
  target: GraphNode;
  /** Marks what has to be copied; on the source, where it is listed until the job ends. */
  bitmap: DirtyBitmap;
  bufferBytes: number;
  unmap: boolean;
  copyMode: CopyMode;
  /** Marked at the start are extents of a depth from 1 to this; Infinity: the whole disk. */
  depthMax: number;
  /** Who is replaced by the target at the end; default: the source. */
  replaces?: GraphNode | undefined;
  /** As MirrorOptions say. */
  beforePivot?: (() => Promise<void>) | undefined;
  /** At the very end, whatever came of it: gives back what was opened for the job. */
  release?(outcome: { pivoted: boolean }): Promise<void>;
}

export class MirrorJob extends PolicyJob implements Mirror {
  readonly type: 'mirror' | 'commit';
  readonly copy: MirrorCopy;
  readonly target: GraphNode;
  readonly copyMode: CopyMode;
  readonly #options: MirrorJobOptions;
  readonly #still: StandStill;
  readonly #ready = Promise.withResolvers<void>();
  readonly #unwatch: () => void;
  #synced = false;
  #decision: { pivot: boolean } | undefined;
  #pivoted = false;
  #failure: CopyFailure | undefined;
  /** The next piece is being looked for: soon a copy may be in flight. */
  #claiming: Promise<unknown> | undefined;

  /** Holds all that it was given from here on, until it is concluded. */
  constructor(options: MirrorJobOptions) {
    super(options);
    const { bitmap, bufferBytes, unmap, source, target } = options;
    this.#options = options;
    this.type = options.type;
    this.copyMode = options.copyMode;
    // Past any gate: guests' writes must get through while a drain waits for them.
    this.target = target;
    this.copy = new MirrorCopy({
      source: options.filterDriver.source,
      target,
      dirty: bitmap.bits,
      bufferBytes,
      unmap,
      onFailure: failure => this.changed(failure),
    });
    this.#still = new StandStill(options.graph, source);
    this.#ready.promise.catch(() => undefined);
    source.bitmaps.insert(bitmap);
    this.#unwatch = source.bitmaps.watch((offset, length) => {
      if (this.copy.mark(offset, length) && this.#synced) this.wake();
    });
  }

  /** Resolves at READY; rejects with kind `cancelled` or the job's error where it ends before. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** The source's users have moved to the target. */
  get pivoted(): boolean {
    return this.#pivoted;
  }

  progress(): JobProgress {
    const { doneBytes, sentBytes, remainingBytes } = this.copy;
    return { currentBytes: doneBytes, totalBytes: doneBytes + remainingBytes, sentBytes };
  }

  override get holdsGuests(): boolean {
    return this.#still.holds;
  }

  override start(): void {
    this.#options.filterDriver.mirror = this;
    super.start();
  }

  changed(failure: CopyFailure | undefined): void {
    this.#failure ??= failure;
    if (this.#synced || failure !== undefined) this.wake();
  }

  protected override onComplete(decision: { pivot: boolean }): void {
    this.#decision ??= decision;
    this.wake();
  }

  /** Requests in flight end; with `force` also those that a hanging target keeps. */
  protected override onCancel(force: boolean): void {
    if (force) this.target.cancelInFlight();
  }

  protected override async run(): Promise<void> {
    const { source } = this.#options;
    if (this.type === 'mirror' && this.target.sizeBytes !== source.sizeBytes) {
      const hint = `They have ${source.sizeBytes} and ${this.target.sizeBytes} bytes.`;
      throw new EngineError('invalid-argument', 'Source and target image have different sizes', { hint });
    }
    try {
      await this.#markAllocated();
      await this.#mirror();
    } finally {
      await this.#piecesEnded();
    }
  }

  async #mirror(): Promise<void> {
    for (let cursor = 0; ; ) {
      if (this.mustRest || this.#failure !== undefined) {
        await this.#still.end();
        await this.#piecesEnded();
        const failure = this.#failure;
        this.#failure = undefined;
        if (failure !== undefined && !this.cancelled) await this.settleFailure(failure);
        cursor = 0;
      }
      await this.pausePoint();
      if (this.#failure !== undefined) continue;
      if (this.copy.isEqual) {
        if (await this.#isOver()) return;
        continue;
      }
      const waitMs = this.speedDelayMs;
      if (waitMs > 0) await this.sleep(waitMs);
      else cursor = await this.#copyStretch(cursor);
    }
  }

  /** Claims what is marked, up to the memory that the job has; returns where to go on. */
  async #copyStretch(cursor: number): Promise<number> {
    let sent = 0;
    const first = this.copy.dirty.nextDirty(cursor);
    if (first < 0) {
      if (cursor > 0) return 0;
      await this.copy.anyFinished();
      return 0;
    }
    let from = first;
    const end = first + this.copy.bufferBytes;
    while (!this.mustRest && this.#failure === undefined) {
      if (this.copy.isFull) {
        await this.copy.anyFinished();
        continue;
      }
      const piece = await this.#claim(from, end);
      if (piece === undefined) break;
      from = piece.offset + piece.length;
      sent += piece.length;
    }
    this.account(sent);
    if (from === first && this.copy.inFlight > 0) await this.copy.anyFinished();
    return from > first ? from : end;
  }

  async #claim(from: number, end: number) {
    const claiming = this.copy.copyNext(from, end);
    this.#claiming = claiming.catch(() => undefined);
    try {
      return await claiming;
    } catch (cause) {
      const error = fromSystemError(cause, { op: 'block-status', offset: from });
      this.#failure ??= { side: 'source', error, offset: from, length: 0 };
      return undefined;
    }
  }

  /** Nothing is marked and nothing on the way: the job becomes ready, waits for news, or is over. */
  async #isOver(): Promise<boolean> {
    if (!this.#synced) {
      if (!(await this.#flushTarget())) return false;
      this.#synced = true;
      this.enterReady();
      this.#ready.resolve();
      return false;
    }
    if (this.#decision === undefined) {
      await this.untilWoken();
      return false;
    }
    // What was still on its way when guests stopped is copied first.
    if (!this.#still.holds) await this.#still.begin();
    return this.copy.isEqual && (await this.#flushTarget()) && !this.cancelled;
  }

  async #flushTarget(): Promise<boolean> {
    try {
      await this.target.flush();
      return true;
    } catch (cause) {
      this.#failure ??= {
        side: 'target',
        error: fromSystemError(cause, { op: 'flush' }),
        offset: 0,
        length: 0,
      };
      return false;
    }
  }

  async #markAllocated(): Promise<void> {
    const { dirty } = this.copy;
    const { depthMax } = this.#options;
    if (depthMax === Infinity) dirty.setAll();
    for (let offset = 0; depthMax !== Infinity && depthMax > 0 && offset < dirty.sizeBytes; ) {
      await this.pausePoint();
      const extents = await this.#options.filterDriver.source.extents(offset, dirty.sizeBytes - offset);
      for (const { offset: at, length, depth } of extents) {
        if (depth >= 1 && depth <= depthMax) dirty.set(at, length);
        offset = at + length;
      }
    }
  }

  /** Closes the job's gate for a drain; resolves once nothing of it is on the way. */
  async quiesce(): Promise<void> {
    this.beginDrain();
    await this.#claiming;
    await this.#piecesEnded();
  }

  unquiesce(): void {
    this.endDrain();
  }

  async #piecesEnded(): Promise<void> {
    while (this.copy.inFlight > 0) await this.copy.anyFinished();
  }

  /** Moves the users, where that was asked for; they go on when all is cleaned up. */
  protected override async prepare(): Promise<void> {
    if (this.#decision?.pivot !== true) return;
    const { graph, place, source, target, replaces, beforePivot } = this.#options;
    place.loosen();
    await graph.change([source, target, ...(replaces ? [replaces] : [])], {
      async begin() {},
      apply(change) {
        change.moveUsers(replaces ?? source, target);
        if (replaces === undefined) change.moveUsers(place.filter, target);
      },
      async prepare() {
        if (beforePivot === undefined) return;
        await target.flush();
        await beforePivot();
      },
      commit() {},
    });
    this.#pivoted = true;
  }

  protected override async clean(): Promise<void> {
    const { source, place, filterDriver, bitmap, release } = this.#options;
    filterDriver.mirror = undefined;
    this.#ready.reject(this.error);
    place.loosen();
    source.bitmaps.delete(bitmap);
    this.#unwatch();
    try {
      await place.leave();
      await release?.({ pivoted: this.#pivoted });
    } finally {
      // Whatever could not be given back: guests must not wait for it.
      await this.#still.end();
    }
  }
}
