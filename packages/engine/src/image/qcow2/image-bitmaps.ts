// The bitmaps of an open image until somebody else keeps them up: what is written is recorded, and they are stored
// when the image is settled.
import type { DirtyBitmap } from '../../bitmap/dirty-bitmap.ts';
import type { Pending } from '../../pending.ts';
import type { StoredBitmaps } from './stored-bitmaps.ts';

export class ImageBitmaps {
  #stored: StoredBitmaps;
  /** Undefined once they are somebody else's. */
  #own: readonly DirtyBitmap[] | undefined;
  /** The file says that they show everything: the next write has to take that back first. */
  #settled = true;
  #resuming: Promise<void> | undefined;

  private constructor(stored: StoredBitmaps, own: readonly DirtyBitmap[]) {
    this.#stored = stored;
    this.#own = own;
  }

  /** Rejects with `io` or `unsupported`. */
  static async open(stored: StoredBitmaps): Promise<ImageBitmaps> {
    return new ImageBitmaps(stored, await stored.load());
  }

  get stored(): StoredBitmaps {
    return this.#stored;
  }

  /** The image was read anew. */
  replaceStored(stored: StoredBitmaps): void {
    this.#stored = stored;
  }

  get isEmpty(): boolean {
    return this.#stored.list.length === 0 && (this.#own?.length ?? 0) === 0;
  }

  /** Whoever takes them records what is written, and gives them to `store` in the end. */
  take(): readonly DirtyBitmap[] {
    const own = this.#own ?? [];
    this.#own = undefined;
    return own;
  }

  /** To be called before a write is submitted, and waited for. */
  record(offset: number, length: number): Pending {
    if (this.#own !== undefined) for (const bitmap of this.#own) bitmap.recordingBits?.set(offset, length);
    return this.#settled ? this.resume() : undefined;
  }

  /** The file says that they are in use again. */
  resume(): Promise<void> {
    if (!this.#settled) return Promise.resolve();
    this.#resuming ??= this.#resume();
    return this.#resuming;
  }

  async #resume(): Promise<void> {
    try {
      await this.#stored.markInUse();
      this.#settled = false;
    } finally {
      this.#resuming = undefined;
    }
  }

  /** With nothing in flight: the file has them as they are, until the next write. */
  async store(bitmaps: readonly DirtyBitmap[]): Promise<void> {
    await this.#stored.store(bitmaps);
    this.#settled = true;
  }

  /** With nothing in flight: lets each be as long as the disk is now. */
  truncate(sizeBytes: number): void {
    for (const bitmap of this.#own ?? []) bitmap.bits.truncate(sizeBytes);
  }

  /** With nothing in flight. Without effect where somebody else has them. */
  async settle(): Promise<void> {
    if (this.#own === undefined || this.#settled || this.#own.length === 0) return;
    await this.store(this.#own);
  }
}
