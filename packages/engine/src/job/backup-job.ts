// Backup of a live disk as of the moment its copy-before-write filter appeared. The transaction's backup
// action makes filter and job together; the job takes the filter away when it ends.

import type { DirtyBitmap } from '../bitmap/dirty-bitmap.ts';
import type { CopyBeforeWrite } from '../filter/copy-before-write.ts';
import type { BlockGraph } from '../graph/block-graph.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import { CopyJob, type CopyJobOptions } from './copy-job.ts';

/** What becomes of the bitmap: kept as it was, cleared on success, or cleared of whatever was copied. */
export const BITMAP_MODES = ['never', 'on-success', 'always'] as const;
export type BitmapMode = (typeof BITMAP_MODES)[number];

export interface BackupJobOptions extends CopyJobOptions {
  graph: BlockGraph;
  source: GraphNode;
  filter: GraphNode;
  filterDriver: CopyBeforeWrite;
  bitmap?: DirtyBitmap | undefined;
  bitmapMode?: BitmapMode | undefined;
}

export class BackupJob extends CopyJob {
  readonly type = 'backup';
  readonly #graph: BlockGraph;
  readonly #source: GraphNode;
  readonly #filter: GraphNode;
  readonly #filterDriver: CopyBeforeWrite;
  readonly #bitmap: DirtyBitmap | undefined;
  readonly #bitmapMode: BitmapMode;

  constructor(options: BackupJobOptions) {
    super(options);
    this.#graph = options.graph;
    this.#source = options.source;
    this.#filter = options.filter;
    this.#filterDriver = options.filterDriver;
    this.#bitmap = options.bitmap;
    this.#bitmapMode = options.bitmapMode ?? 'never';
  }

  /**
   * The point in time. Under drain and in one go: the filter takes its place, the bitmap is frozen, its bits
   * become what is to be copied, and the job starts. Cannot fail once the action was prepared.
   */
  startUnderDrain(): void {
    this.#graph.insertAbove(this.#source, this.#filter);
    if (this.#bitmap === undefined) {
      this.copy.copyBitmap.setAll();
    } else {
      this.#bitmap.createSuccessor();
      this.#source.bitmaps.refresh();
      this.copy.copyBitmap.merge(this.#bitmap.bits);
    }
    this.start();
  }

  protected override assertWorthGoingOn(): void {
    if (this.#filterDriver.broken !== undefined) throw this.#filterDriver.broken;
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
      bitmap.bits.clear();
      bitmap.bits.merge(this.copy.copyBitmap);
    }
    bitmap.reclaim();
    this.#source.bitmaps.refresh();
  }

  protected override async clean(): Promise<void> {
    await this.#graph.drained([this.#filter], () => {
      if (this.#filter.inserted) this.#graph.bypass(this.#filter);
    });
    await this.#graph.remove(this.#filter.name);
  }
}
