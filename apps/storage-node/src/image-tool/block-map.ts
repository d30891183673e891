// What each stretch of a disk is, and which image of the chain it comes from.
import type { FileNode } from '@tidemark/engine';
import type { Layer } from './layers.ts';
import { isPreallocated } from './preallocated.ts';
import { type OwnRun, Qcow2Map } from './qcow2-map.ts';

/** As `qemu-img map --output=json` shows it. */
export interface MapEntry {
  start: number;
  length: number;
  /** 0: the topmost image. */
  depth: number;
  /** Some image says what is here; otherwise no image does. */
  present: boolean;
  zero: boolean;
  data: boolean;
  /** In the image's file. */
  offset: number | undefined;
  compressed: boolean;
}

/** Walks forward only, in bounded memory. */
export class BlockMap {
  readonly #layers: readonly Layer[];
  readonly #maps: readonly (Qcow2Map | undefined)[];
  /** Of each layer, once it is known. */
  readonly #preallocated = new Map<number, boolean>();

  constructor(layers: readonly Layer[]) {
    this.#layers = layers;
    this.#maps = layers.map(({ file, header }) => header && new Qcow2Map(file, header));
  }

  /** The first stretch of the range, which lies in the disk. */
  lookup(start: number, length: number): Promise<MapEntry> {
    return this.#lookup(0, start, length);
  }

  async #lookup(depth: number, start: number, length: number): Promise<MapEntry> {
    const { file, disk } = this.#layers[depth]!;
    const map = this.#maps[depth];
    const about = { start, depth, compressed: false, present: true };
    if (map === undefined) {
      if (start >= file.sizeBytes) {
        return {
          ...about,
          length: Math.min(length, disk.sizeBytes - start),
          zero: true,
          data: false,
          offset: start,
        };
      }
      const [extent] = await file.extents(start, Math.min(length, file.sizeBytes - start));
      const { data } = extent!;
      return { ...about, length: extent!.length, zero: !data, data, offset: start };
    }
    const run = await map.lookup(start, length);
    if (run.kind === 'unallocated') return this.#below(depth, start, run.length);
    if (run.kind === 'data' && (await this.#isPreallocated(depth))) {
      return { ...about, ...(await this.#holeOrData(file, run)) };
    }
    const data = run.kind !== 'zero';
    const compressed = run.kind === 'compressed';
    return { ...about, length: run.length, zero: !data, data, offset: run.hostOffset, compressed };
  }

  async #isPreallocated(depth: number): Promise<boolean> {
    const known = this.#preallocated.get(depth);
    if (known !== undefined) return known;
    const { file, header } = this.#layers[depth]!;
    const found = await isPreallocated(file, header!);
    this.#preallocated.set(depth, found);
    return found;
  }

  /** The part of a run of clusters that the file tells one thing of; past its end there are zeroes. */
  async #holeOrData(
    file: FileNode,
    { length, hostOffset }: OwnRun,
  ): Promise<Pick<MapEntry, 'length' | 'zero' | 'data' | 'offset'>> {
    const there = Math.min(length, file.sizeBytes - hostOffset!);
    if (there <= 0) return { length, zero: true, data: true, offset: hostOffset };
    const [extent] = await file.extents(hostOffset!, there);
    return { length: extent!.length, zero: !extent!.data, data: true, offset: hostOffset };
  }

  async #below(depth: number, start: number, length: number): Promise<MapEntry> {
    const below = this.#layers[depth + 1]?.disk.sizeBytes ?? 0;
    if (start < below) return this.#lookup(depth + 1, start, Math.min(length, below - start));
    const nothing = { present: false, zero: true, data: false, offset: undefined, compressed: false };
    return { start, length, depth, ...nothing };
  }

  /** All of the range, neighbours that say the same as one. */
  async *entries(start: number, end: number): AsyncGenerator<MapEntry> {
    let current: MapEntry | undefined;
    for (let at = start; at < end; ) {
      const next = await this.lookup(at, end - at);
      at += next.length;
      if (current !== undefined && continues(current, next)) current.length += next.length;
      else {
        if (current !== undefined) yield current;
        current = next;
      }
    }
    if (current !== undefined) yield current;
  }
}

function continues(one: MapEntry, next: MapEntry): boolean {
  const sameKind =
    one.depth === next.depth &&
    one.present === next.present &&
    one.zero === next.zero &&
    one.data === next.data &&
    one.compressed === next.compressed;
  const offset = one.offset === undefined ? undefined : one.offset + one.length;
  return sameKind && next.offset === offset;
}
