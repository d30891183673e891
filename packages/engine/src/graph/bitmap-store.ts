// The dirty bitmaps of one block node, and the short list of those that take note of writes right now.
import type { Bitmap } from '../bitmap/bitmap.ts';
import { DirtyBitmap, type DirtyBitmapInfo, type DirtyBitmapOptions } from '../bitmap/dirty-bitmap.ts';
import { EngineError } from '../errors.ts';
import type { Pending } from '../pending.ts';

/** Told of each change of the node's contents when it has ended, well or not. */
export type ChangeWatcher = (offset: number, length: number) => void;

export class BitmapStore {
  readonly #node: string;
  readonly #sizeBytes: () => number;
  /** Newest first, as a query shows them. */
  readonly #bitmaps: DirtyBitmap[] = [];
  readonly #inImage = new Set<DirtyBitmap>();
  /** The same with their successors, each where its own age puts it. */
  #listed: DirtyBitmap[] = [];
  /** Derived from the bitmaps' flags by `refresh`, so that a write costs one loop over few entries. */
  #recording: Bitmap[] = [];
  readonly #watchers = new Set<ChangeWatcher>();

  constructor(node: string, sizeBytes: () => number) {
    this.#node = node;
    this.#sizeBytes = sizeBytes;
  }

  /** Called before a write is submitted: a bit too many does no harm, one too few loses data. */
  recordWrite(offset: number, length: number): void {
    for (const bits of this.#recording) bits.set(offset, length);
  }

  /** Returns the function that ends it. */
  watch(watcher: ChangeWatcher): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** The change that is under way, followed by the watchers' notice of its end. */
  watched(change: Pending, offset: number, length: number): Pending {
    if (this.#watchers.size === 0) return change;
    const tell = () => {
      for (const watcher of this.#watchers) watcher(offset, length);
    };
    if (change !== undefined) return change.finally(tell);
    tell();
    return undefined;
  }

  /** A new bitmap that `insert` will accept, not yet part of the node. */
  create(options: DirtyBitmapOptions): DirtyBitmap {
    if (options.name !== undefined && this.find(options.name) !== undefined) {
      throw new EngineError('exists', `Bitmap already exists: ${options.name}`, { node: this.#node });
    }
    return new DirtyBitmap(this.#sizeBytes(), options);
  }

  /** `inImage`: the image under the node is to keep it. */
  insert(bitmap: DirtyBitmap, { inImage = false } = {}): void {
    this.#bitmaps.unshift(bitmap);
    if (inImage) this.#inImage.add(bitmap);
    this.refresh();
  }

  /** Those that the image is to keep, newest first. */
  get inImage(): DirtyBitmap[] {
    return this.#bitmaps.filter(bitmap => this.#inImage.has(bitmap));
  }

  delete(bitmap: DirtyBitmap): void {
    const index = this.#bitmaps.indexOf(bitmap);
    if (index >= 0) this.#bitmaps.splice(index, 1);
    this.#inImage.delete(bitmap);
    this.refresh();
  }

  find(name: string): DirtyBitmap | undefined {
    return this.#bitmaps.find(bitmap => bitmap.name === name);
  }

  get(name: string): DirtyBitmap {
    const bitmap = this.find(name);
    if (bitmap === undefined) {
      throw new EngineError('not-found', `Dirty bitmap '${name}' not found`, { node: this.#node });
    }
    return bitmap;
  }

  get all(): readonly DirtyBitmap[] {
    return this.#bitmaps;
  }

  /** Every bitmap, anonymous successors among them, newest first (scenario BM-25). */
  query(): DirtyBitmapInfo[] {
    return this.#listed.map(bitmap => bitmap.info());
  }

  /** Lets every bitmap have the size of the node. */
  fit(): void {
    // A node that is being opened has neither bitmaps nor a size.
    if (this.#bitmaps.length === 0) return;
    const sizeBytes = this.#sizeBytes();
    for (const bitmap of this.#bitmaps) if (bitmap.bits.sizeBytes !== sizeBytes) bitmap.truncate(sizeBytes);
  }

  /** To be called after any change of a bitmap's flags or successor. */
  refresh(): void {
    this.#recording = this.#bitmaps.map(bitmap => bitmap.recordingBits).filter(bits => bits !== undefined);
    const present = new Set<DirtyBitmap>();
    for (const bitmap of this.#bitmaps) {
      if (bitmap.successor !== undefined) present.add(bitmap.successor);
      present.add(bitmap);
    }
    const kept = this.#listed.filter(bitmap => present.delete(bitmap));
    this.#listed = [...present, ...kept];
  }
}
