// The file of a volume's write-intent log, open. Writes are durable when they have ended and never run side by side.
import type { Bitmap } from '@tidemark/engine';
import type { StateFile } from '../host/files.ts';
import type { StateStore } from '../host/state-store.ts';
import {
  decodeLog,
  encodeEmptyLog,
  encodeSlot,
  type IntentScope,
  type IntentSlot,
  type ReadLog,
  slotOffset,
} from './intent-slots.ts';

export class IntentFile {
  readonly scope: IntentScope;
  readonly #file: StateFile;
  /** Of the slot that counts. */
  #sequence: number;
  #isEmpty: boolean;

  private constructor(file: StateFile, scope: IntentScope, { sequence, regions }: IntentSlot) {
    this.#file = file;
    this.scope = scope;
    this.#sequence = sequence;
    this.#isEmpty = regions.every(byte => byte === 0);
  }

  /** Makes an empty log, durably, in the place of whatever is there. */
  static async create(store: StateStore, name: string, scope: IntentScope): Promise<IntentFile> {
    await store.writeBytes(name, encodeEmptyLog(scope));
    const slot = { sequence: 1, regions: new Uint8Array(0) };
    return IntentFile.open(store, name, { scope, slot });
  }

  /** What a log holds; undefined where it is damaged or another volume's; `missing` where there is none. */
  static async read(
    store: StateStore,
    name: string,
    owner: Omit<IntentScope, 'regionBytes'>,
  ): Promise<ReadLog | undefined | 'missing'> {
    const bytes = await store.readBytes(name);
    return bytes === undefined ? 'missing' : decodeLog(bytes, owner);
  }

  /** Opens a log that was read, for writing on. */
  static async open(store: StateStore, name: string, { scope, slot }: ReadLog): Promise<IntentFile> {
    return new IntentFile(await store.files.open(store.path(name), 'durable'), scope, slot);
  }

  /** What failed may count or not, and is written to the same slot again: the other one holds what was promised. */
  async write(regions: Uint8Array): Promise<void> {
    const sequence = this.#sequence + 1;
    this.#isEmpty = false;
    await this.#file.write(encodeSlot(this.scope, { sequence, regions }), slotOffset(this.scope, sequence));
    this.#sequence = sequence;
    this.#isEmpty = regions.every(byte => byte === 0);
  }

  /** No region is in it afterwards. */
  async clear(): Promise<void> {
    if (!this.#isEmpty) await this.write(new Uint8Array(0));
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

/** Marks all of the regions as dirty; returns how many bytes that added. */
export function markRegions(bits: Bitmap, { scope, slot }: ReadLog): number {
  const before = bits.dirtyBytes;
  for (const region of regionNumbers(slot.regions)) {
    const offset = region * scope.regionBytes;
    bits.set(offset, Math.min(scope.regionBytes, scope.sizeBytes - offset));
  }
  return bits.dirtyBytes - before;
}

export function* regionNumbers(regions: Uint8Array): IterableIterator<number> {
  for (const [index, byte] of regions.entries()) {
    for (let bit = 0; byte >> bit > 0; bit++) if ((byte >> bit) & 1) yield index * 8 + bit;
  }
}
