// Backup of a live disk as of the moment its copy-before-write filter appeared. The transaction's backup
// action makes filter and job together; the job takes the filter away when it ends.

import type { DirtyBitmap } from '../bitmap/dirty-bitmap.ts';
import { EngineError } from '../errors.ts';
import type { CopyBeforeWrite } from '../filter/copy-before-write.ts';
import type { BlockGraph } from '../graph/block-graph.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import { CopyJob, type CopyJobOptions } from './copy-job.ts';

/**
 * What is copied: all; what the top image of a chain holds itself; nothing but what guests overwrite, until
 * it is cancelled; what a bitmap says (`incremental`: with bitmap mode on-success).
 */
export const BACKUP_SYNC_MODES = ['top', 'full', 'none', 'incremental', 'bitmap'] as const;
export type BackupSync = (typeof BACKUP_SYNC_MODES)[number];

/** What becomes of the bitmap: kept as it was, cleared on success, or cleared of whatever was copied. */
export const BITMAP_MODES = ['on-success', 'never', 'always'] as const;
export type BitmapMode = (typeof BITMAP_MODES)[number];

export interface BackupJobOptions extends CopyJobOptions {
  graph: BlockGraph;
  source: GraphNode;
  target: GraphNode;
  filter: GraphNode;
  filterDriver: CopyBeforeWrite;
  sync: BackupSync;
  bitmap?: DirtyBitmap | undefined;
  bitmapMode?: BitmapMode | undefined;
}

/** Why nobody else may have the job's target and filter, in QEMU's words. */
const BLOCKER = 'block job: backup';

/** A job that is over waits this long for its target: one that hangs must not keep it. */
const LAST_FLUSH_MS_MAX = 10_000;

export class BackupJob extends CopyJob {
  readonly type = 'backup';
  readonly #graph: BlockGraph;
  readonly #source: GraphNode;
  readonly #targetNode: GraphNode;
  readonly #filter: GraphNode;
  readonly #filterDriver: CopyBeforeWrite;
  readonly #sync: BackupSync;
  readonly #bitmap: DirtyBitmap | undefined;
  readonly #bitmapMode: BitmapMode;
  /** All that was copied survives a power cut. */
  #flushed = false;

  /** Holds filter, target and bitmap from here on, until it is concluded. */
  constructor(options: BackupJobOptions) {
    super(options);
    this.#graph = options.graph;
    this.#source = options.source;
    this.#targetNode = options.target;
    this.#filter = options.filter;
    this.#filterDriver = options.filterDriver;
    this.#sync = options.sync;
    this.#bitmap = options.bitmap;
    this.#bitmapMode = options.bitmapMode ?? 'never';
    this.#bitmap?.setBusy(true);
    for (const node of [this.#targetNode, this.#filter]) node.blockers.add(BLOCKER);
    this.#targetNode.writers.add(this);
    this.#filter.readers.add(this);
    this.#filterDriver.onBroken = () => {
      // What the target holds of it is of no use any more, and the target may be what hangs.
      this.#targetNode.cancelInFlight();
      this.wake();
    };
  }

  /** Throws kind `conflict` where somebody below cannot live with the filter. */
  assertStartable(): void {
    this.#graph.assertInsertable(this.#source, this.#filter);
  }

  /**
   * Under drain, before `startUnderDrain`: the filter takes its place, so that whatever else is prepared for the same
   * moment meets its permissions. It lets everything pass until then. Throws as `assertStartable` does.
   */
  takePlace(): void {
    this.#graph.insertAbove(this.#source, this.#filter);
  }

  /**
   * The point in time. Under drain and in one go: the bitmap is frozen, its bits become what is to be copied, and
   * the job starts. Cannot fail.
   */
  startUnderDrain(): void {
    this.#bitmap?.createSuccessor();
    this.#source.bitmaps.refresh();
    if (this.#sync === 'bitmap' || this.#sync === 'incremental') {
      this.copy.copyBitmap.merge(this.#bitmap!.bits);
    } else {
      this.copy.copyBitmap.setAll();
    }
    this.start();
  }

  protected override assertWorthGoingOn(): void {
    if (this.#filterDriver.broken !== undefined) throw this.#filterDriver.broken;
  }

  protected override async run(): Promise<void> {
    if (this.#sync === 'none') return this.#waitForCancel();
    if (this.#sync === 'top') await this.#leaveOutUnallocated();
    await super.run();
    this.#flushed = true;
  }

  protected override async commit(): Promise<void> {
    if (this.#bitmapMode === 'never') this.#bitmap?.reclaim();
    else this.#bitmap?.abdicate();
    this.#source.bitmaps.refresh();
  }

  protected override async abort(): Promise<void> {
    await super.abort();
    const bitmap = this.#bitmap;
    if (bitmap?.successor === undefined) return;
    if (this.#bitmapMode === 'always') {
      // What stays dirty is what is not on the target (scenario 6.5); the target is kept in the chain.
      const survives = await this.#survives();
      if (survives) {
        bitmap.bits.clear();
        bitmap.bits.merge(this.copy.copyBitmap);
      } else if (this.#sync === 'full' || this.#sync === 'top') bitmap.bits.setAll();
    }
    bitmap.reclaim();
    this.#source.bitmaps.refresh();
  }

  protected override async clean(): Promise<void> {
    // Still held where the job was never started.
    if (this.#bitmap?.successor === undefined) this.#bitmap?.setBusy(false);
    await this.#graph.drained([this.#filter], () => {
      if (this.#filter.inserted) this.#graph.bypass(this.#filter);
    });
    this.#targetNode.writers.delete(this);
    for (const node of [this.#targetNode, this.#filter]) node.blockers.delete(BLOCKER);
    await this.#graph.remove(this.#filter.name, { withBitmaps: true });
  }

  /**
   * Whether all that was copied is certain to be there after a power cut (scenario INV-12). A job that had copied
   * everything may have failed by its flush: doing it again would then prove nothing.
   */
  async #survives(): Promise<boolean> {
    if (this.#flushed) return true;
    if (this.copy.copyBitmap.dirtyGranules === 0) return false;
    const timer = new AbortController();
    const late = this.clock.sleep(LAST_FLUSH_MS_MAX, timer.signal).then(() => {
      if (!timer.signal.aborted) this.#targetNode.cancelInFlight();
      return false;
    });
    const survives = await Promise.race([this.#flush(), late]);
    timer.abort();
    return survives;
  }

  async #flush(): Promise<boolean> {
    try {
      await this.#targetNode.flush();
      return true;
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      return false;
    }
  }

  async #waitForCancel(): Promise<void> {
    for (;;) {
      await this.pausePoint();
      this.assertWorthGoingOn();
      await this.untilWoken();
    }
  }

  /** Rejects when the source cannot say what it holds itself: no policy covers that (as in QEMU). */
  async #leaveOutUnallocated(): Promise<void> {
    for (let offset = 0; offset < this.#source.sizeBytes; ) {
      await this.pausePoint();
      if (this.mustRest) continue;
      offset = (await this.busyWith(this.copy.resetUnallocated(offset))).nextOffset;
    }
  }
}
