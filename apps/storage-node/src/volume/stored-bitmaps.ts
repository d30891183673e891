// The files of a volume's bitmaps, and what opening makes of them. The bits of a checkpoint that no longer records are
// complete in their file. Those of the recording one are the file's and all of the regions of the write-intent log.
import { type Bitmap, DirtyBitmap } from '@tidemark/engine';
import type { StateStore } from '../host/state-store.ts';
import { decodeBitmap, encodeBitmap } from './bitmap-file.ts';
import { IntentFile, markRegions } from './intent-file.ts';
import type { ReadLog } from './intent-slots.ts';
import { type CheckpointRecord, cleanSchema, VolumeLayout, type VolumeRecord } from './volume-record.ts';

export interface LoadedBitmaps {
  readonly bitmaps: readonly DirtyBitmap[];
  /** By checkpoint. */
  readonly grownBytes: ReadonlyMap<string, number>;
  /** The log to go on with; undefined where the recording bitmap cannot be trusted, or its log has to be made. */
  readonly log: ReadLog | undefined;
}

export class StoredBitmaps {
  readonly #store: StateStore;
  readonly #layout: VolumeLayout;
  readonly #volumeId: string;

  constructor(store: StateStore, volumeId: string) {
    this.#store = store;
    this.#volumeId = volumeId;
    this.#layout = new VolumeLayout(volumeId);
  }

  /** Durably. */
  save(checkpointId: string, bits: Bitmap, grownBytes: number): Promise<void> {
    const owner = { volumeId: this.#volumeId, checkpointId };
    return this.#store.writeBytes(
      this.#layout.bitmap(checkpointId),
      encodeBitmap(owner, { bits, grownBytes }),
    );
  }

  /** A bitmap without a file is not trusted. */
  remove(checkpointId: string): Promise<void> {
    return this.#store.remove(this.#layout.bitmap(checkpointId));
  }

  /** Once the record says that the log counts. */
  removeCleanMark(): Promise<void> {
    return this.#store.remove(this.#layout.clean);
  }

  /** Removes the files of checkpoints that are not among these. */
  async sweep(records: readonly CheckpointRecord[]): Promise<void> {
    const known = new Set(records.map(({ checkpointId }) => checkpointId));
    for (const name of await this.#store.list(this.#layout.bitmaps)) {
      if (!known.has(name)) await this.remove(name);
    }
  }

  /**
   * What a volume's bitmaps are after whatever end the last life of the process had. Bits that the log adds are stored
   * before this resolves.
   */
  async load(record: VolumeRecord, sizeBytes: number): Promise<LoadedBitmaps> {
    const grownBytes = new Map<string, number>();
    const bitmaps: DirtyBitmap[] = [];
    const last = record.checkpoints.at(-1);
    for (const checkpoint of record.checkpoints) {
      const { checkpointId, granularityBytes } = checkpoint;
      const options = {
        name: checkpointId,
        granularityBytes,
        recording: checkpoint === last,
        persistent: true,
      };
      const bitmap = new DirtyBitmap(sizeBytes, options);
      const stored = await this.#read(checkpoint, sizeBytes);
      if (stored === undefined) bitmap.markInconsistent();
      else bitmap.bits.merge(stored.bits);
      grownBytes.set(checkpointId, stored?.grownBytes ?? 0);
      bitmaps.push(bitmap);
    }
    const log = bitmaps.length === 0 ? undefined : await this.#applyLog(record, bitmaps.at(-1)!, grownBytes);
    return { bitmaps, grownBytes, log };
  }

  async #read({ checkpointId, granularityBytes }: CheckpointRecord, sizeBytes: number) {
    const file = await this.#store.readBytes(this.#layout.bitmap(checkpointId));
    const expected = { volumeId: this.#volumeId, checkpointId, sizeBytes, granularityBytes };
    return file && decodeBitmap(file, expected);
  }

  async #applyLog(
    record: VolumeRecord,
    bitmap: DirtyBitmap,
    grownBytes: Map<string, number>,
  ): Promise<ReadLog | undefined> {
    const checkpointId = bitmap.name!;
    const { sizeBytes } = bitmap.bits;
    if (record.version === 1) {
      // Of a time without logs: what vouches for the bits is the mark of an orderly stop.
      const clean = await this.#store.read(this.#layout.clean, cleanSchema);
      if (clean?.checkpointId !== checkpointId) await this.#distrust(bitmap);
      return undefined;
    }
    const owner = { volumeId: this.#volumeId, sizeBytes };
    const log = await IntentFile.read(this.#store, this.#layout.intents, owner);
    if (bitmap.inconsistent) return undefined;
    if (log === undefined || log === 'missing') {
      await this.#distrust(bitmap);
      return undefined;
    }
    const grown = markRegions(bitmap.bits, log);
    if (grown > 0) {
      grownBytes.set(checkpointId, grownBytes.get(checkpointId)! + grown);
      // Both in one file: however often opening is cut off, what was added is counted once.
      await this.save(checkpointId, bitmap.bits, grownBytes.get(checkpointId)!);
    }
    return log;
  }

  /** For good: a log that is made later must not make it look sound. */
  async #distrust(bitmap: DirtyBitmap): Promise<void> {
    bitmap.markInconsistent();
    await this.remove(bitmap.name!);
  }
}

/** A copy of all of its bits. */
export function bitsOf(bitmap: DirtyBitmap): Bitmap {
  const bits = bitmap.bits.clone();
  if (bitmap.successor !== undefined) bits.merge(bitmap.successor.bits);
  return bits;
}
