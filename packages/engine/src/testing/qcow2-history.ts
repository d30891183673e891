// A random history of one qcow2 image: writes, flushes, snapshots, bitmaps, closing and opening again; with what must
// hold of the file if it ended at any moment of it.
import { DirtyBitmap } from '../bitmap/dirty-bitmap.ts';
import { formatQcow2 } from '../image/qcow2/create.ts';
import { Qcow2Image } from '../image/qcow2/qcow2-image.ts';
import type { BlockNode } from '../node/block-node.ts';
import { KiB, MiB } from '../units.ts';
import { RecordingNode } from './recording-node.ts';
import type { SeededRandom } from './seeded-random.ts';

const SIZE = MiB + 512;
const GRANULARITY = 16 * KiB;

/** What is known to be in the file from a moment on. */
interface Knowledge {
  /** Requests of the file until then. */
  moment: number;
  /** The disk's bytes, and where they may be others: 1. */
  bytes: Buffer;
  uncertain: Buffer;
  /** What the disk may be instead, as a whole: before, or after, going to a snapshot. */
  other: Buffer | undefined;
}

export class Qcow2History {
  readonly file = new RecordingNode();
  /** First moment at which there is an image. */
  begin = 0;
  readonly #random: SeededRandom;
  readonly #knowledge: Knowledge[] = [];
  readonly #snapshots = new Map<string, Buffer>();
  #image!: Qcow2Image;
  #bytes = Buffer.alloc(SIZE);
  #uncertain = Buffer.alloc(SIZE);

  constructor(random: SeededRandom) {
    this.#random = random;
  }

  /** Makes the image, with a bitmap that shows all changes from nothing but zeroes on, and lives through the steps. */
  async play(options: { clusterBytes: number; steps: number; bitmap: boolean }): Promise<void> {
    await formatQcow2(this.file, { sizeBytes: SIZE, clusterBytes: options.clusterBytes });
    await this.#open();
    if (options.bitmap) {
      const bitmap = { name: 'changes', granularityBytes: GRANULARITY, persistent: true };
      await this.#image.storeBitmaps([new DirtyBitmap(SIZE, bitmap)]);
      await this.#image.close();
      await this.#open();
    }
    await this.file.flush();
    this.begin = this.file.moments;
    this.#know();
    for (let step = 0; step < options.steps; step++) await this.#step(options.bitmap);
    await this.#image.close();
  }

  async #open(): Promise<void> {
    this.#image = await Qcow2Image.open(this.file, { keepChildren: true, l2CacheBytes: 0 });
  }

  async #step(hasBitmap: boolean): Promise<void> {
    const dice = this.#random.int(0, 11);
    if (dice < 5) await this.#change();
    else if (dice < 7) {
      await this.#image.flush();
      this.#know();
    } else if (dice === 7) {
      await this.#image.close();
      this.#know();
      await this.#open();
    } else if (dice < 10) await this.#makeSnapshot();
    else await this.#useSnapshot(hasBitmap);
  }

  async #change(): Promise<void> {
    for (let count = this.#random.int(1, 4); count > 0; count--) {
      const offset = this.#random.int(0, SIZE / 512 - 1) * 512;
      const length = Math.min(this.#random.int(1, 120) * 512, SIZE - offset);
      const data = this.#random.chance(0.7) ? this.#random.bytes(length) : Buffer.alloc(length);
      // Before it is begun: any part of it may be in the file from now on.
      this.#uncertain.fill(1, offset, offset + length);
      this.#knowledge.at(-1)!.uncertain.fill(1, offset, offset + length);
      data.copy(this.#bytes, offset);
      const mayUnmap = this.#random.chance(0.7);
      if (data.every(byte => byte === 0)) await this.#image.writeZeroes(offset, length, { mayUnmap });
      else await this.#image.write(offset, data);
    }
  }

  async #makeSnapshot(): Promise<void> {
    const name = `at ${this.file.moments}`;
    this.#snapshots.set(name, Buffer.from(this.#bytes));
    await this.#image.createSnapshot({ name, dateNanoseconds: 0n });
    this.#know();
  }

  async #useSnapshot(hasBitmap: boolean): Promise<void> {
    const found = await this.#image.snapshots();
    if (found.length === 0) return;
    const { name } = this.#random.pick(found);
    if (hasBitmap || this.#random.chance(0.5)) await this.#image.deleteSnapshot(name);
    else {
      this.#knowledge.at(-1)!.other = this.#snapshots.get(name)!;
      await this.#image.applySnapshot(name);
      this.#bytes = Buffer.from(this.#snapshots.get(name)!);
    }
    this.#know();
  }

  #know(): void {
    this.#uncertain = Buffer.alloc(SIZE);
    const bytes = Buffer.from(this.#bytes);
    this.#knowledge.push({
      moment: this.file.moments,
      bytes,
      uncertain: Buffer.alloc(SIZE),
      other: undefined,
    });
  }

  /**
   * Opens what was left at the moment, which repairs it where it says so, and compares. Returns what is wrong.
   */
  async judge(left: BlockNode, moment: number): Promise<string[]> {
    const image = await Qcow2Image.open(left, { keepChildren: true });
    const faults: string[] = [];
    const actual = Buffer.alloc(SIZE);
    await image.read(0, actual);
    const known = this.#knowledge.findLast(knowledge => knowledge.moment <= moment)!;
    if (known.other === undefined || !agrees(actual, known.other, undefined)) {
      const wrong = firstDifference(actual, known.bytes, known.uncertain);
      if (wrong >= 0) faults.push(`byte ${wrong} of the disk is not what was flushed`);
    }
    for (const bitmap of image.takeBitmaps()) {
      if (bitmap.inconsistent) continue;
      const missed = actual.findIndex((byte, at) => byte !== 0 && !bitmap.bits.get(at));
      if (missed >= 0) faults.push(`the bitmap, said to be good, misses a change at ${missed}`);
    }
    await image.storeBitmaps([]);
    for (const { name } of await image.snapshots()) {
      await image.applySnapshot(name);
      await image.read(0, actual);
      if (!actual.equals(this.#snapshots.get(name)!)) faults.push(`snapshot '${name}' is not what it was`);
    }
    await image.close();
    return faults;
  }
}

function agrees(actual: Buffer, expected: Buffer, uncertain: Buffer | undefined): boolean {
  return firstDifference(actual, expected, uncertain) < 0;
}

function firstDifference(actual: Buffer, expected: Buffer, uncertain: Buffer | undefined): number {
  if (actual.equals(expected)) return -1;
  return actual.findIndex((byte, at) => byte !== expected[at] && uncertain?.[at] !== 1);
}
