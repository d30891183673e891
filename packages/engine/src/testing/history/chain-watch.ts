// What a chain of kept backups would lack if it ended now: for each bitmap the contents that its last kept
// backup stands for, so that what differs from the disk must be dirty (INV-2). Knows bytes, not sets.
import { type BitmapStep, HISTORY_BLOCK_BYTES, HISTORY_CLUSTER_BYTES } from './history.ts';

interface Chain {
  recording: boolean;
  contents: Buffer;
  /** Blocks that nobody took note of: written while it was disabled, or under way when it began. */
  missed: Set<number>;
  /** The same since a job has the bitmap. */
  missedSince: Set<number>;
}

interface Range {
  readonly offset: number;
  readonly length: number;
}

export class ChainWatch {
  readonly #chains = new Map<string, Chain>();

  /**
   * An operation that was accepted.
   * @param underWay requests that have reached the disk and are not done.
   */
  bitmap(step: BitmapStep, disk: Buffer, underWay: Iterable<Range>): void {
    const chain = this.#chains.get(step.name);
    const missed = new Set([...underWay].flatMap(blocksOf));
    const contents = Buffer.from(step.bitmap === 'add' || step.bitmap === 'clear' ? disk : '');
    if (step.bitmap === 'add') {
      this.#chains.set(step.name, { recording: !step.disabled, contents, missed, missedSince: new Set() });
    } else if (step.bitmap === 'clear') {
      Object.assign(chain!, { contents, missed, missedSince: new Set() });
    }
    if (step.bitmap === 'remove') this.#chains.delete(step.name);
    if (step.bitmap === 'enable' || step.bitmap === 'disable') chain!.recording = step.bitmap === 'enable';
  }

  /** A guest's request reaches the disk. */
  touch(range: Range): void {
    for (const { recording, missedSince } of this.#chains.values()) {
      if (!recording) for (const block of blocksOf(range)) missedSince.add(block);
    }
  }

  /** A job takes the bitmap. */
  freeze(name: string): void {
    this.#settle(this.#chains.get(name)!);
  }

  /** The bitmap's job is over and its target is kept: it has these clusters. */
  keep(name: string, target: Buffer, clusters: Iterable<number>): void {
    const chain = this.#chains.get(name)!;
    for (const cluster of clusters) {
      const start = cluster * HISTORY_CLUSTER_BYTES;
      target.copy(chain.contents, start, start, start + HISTORY_CLUSTER_BYTES);
      for (const block of blocksOf({ offset: start, length: HISTORY_CLUSTER_BYTES }))
        chain.missed.delete(block);
    }
    this.#settle(chain);
  }

  /** First block in which the disk differs although `isDirty` says nothing of it; undefined: none. */
  lost(name: string, disk: Buffer, isDirty: (offset: number) => boolean): number | undefined {
    const { contents, missed, missedSince } = this.#chains.get(name)!;
    for (let offset = 0; offset < disk.length; offset += HISTORY_BLOCK_BYTES) {
      // Every block is filled with one byte.
      if (disk[offset] === contents[offset] || isDirty(offset)) continue;
      const block = offset / HISTORY_BLOCK_BYTES;
      if (!missed.has(block) && !missedSince.has(block)) return block;
    }
    return undefined;
  }

  #settle(chain: Chain): void {
    for (const block of chain.missedSince) chain.missed.add(block);
    chain.missedSince.clear();
  }
}

function blocksOf({ offset, length }: Range): number[] {
  const first = offset / HISTORY_BLOCK_BYTES;
  return Array.from({ length: length / HISTORY_BLOCK_BYTES }, (_, index) => first + index);
}
