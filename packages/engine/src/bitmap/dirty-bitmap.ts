// A named record of which granules of a block node were written. Flags that do not depend on each other
// (recording, busy, persistent, read-only, inconsistent) say what may be done with it; while a job holds
// it, new writes go to an anonymous successor (scenario INV-5).
import { EngineError } from '../errors.ts';
import {
  BITMAP_NAME_BYTES_MAX,
  GRANULARITY_BYTES_DEFAULT,
  GRANULARITY_BYTES_MAX,
  GRANULARITY_BYTES_MIN,
} from '../limits.ts';
import { isPowerOfTwo, KiB } from '../units.ts';
import { Bitmap } from './bitmap.ts';

export interface DirtyBitmapOptions {
  /** 1 to 1023 bytes; absent for anonymous ones. */
  name?: string;
  granularityBytes: number;
  /** Default true. */
  recording?: boolean;
  /** To be stored when the block node closes. Default false. */
  persistent?: boolean;
}

/** What an operation can live with; by default nothing but a free, writable, consistent bitmap will do. */
export interface BitmapUse {
  /** The stored bits stay as they are, so it may be on a read-only block node (scenario BM-11). */
  readOnly?: boolean;
  /** The bits do not matter (scenario BM-08). */
  inconsistent?: boolean;
}

/** What a query shows of a bitmap. */
export interface DirtyBitmapInfo {
  name: string | undefined;
  granularityBytes: number;
  /** Dirty bytes in whole granules. */
  countBytes: number;
  recording: boolean;
  busy: boolean;
  persistent: boolean;
  inconsistent: boolean;
  memoryBytes: number;
}

export class DirtyBitmap {
  readonly name: string | undefined;
  readonly persistent: boolean;
  #bits: Bitmap;
  #recording: boolean;
  #busy = false;
  #inconsistent = false;
  #readOnly = false;
  #successor: DirtyBitmap | undefined;

  constructor(sizeBytes: number, options: DirtyBitmapOptions) {
    validateName(options.name);
    validateGranularity(options.granularityBytes);
    this.name = options.name;
    this.persistent = options.persistent ?? false;
    this.#recording = options.recording ?? true;
    this.#bits = new Bitmap(sizeBytes, options.granularityBytes);
  }

  /** The bits: read them freely, change them only as the holder of a busy bitmap. */
  get bits(): Bitmap {
    return this.#bits;
  }

  get busy(): boolean {
    return this.#busy;
  }

  get inconsistent(): boolean {
    return this.#inconsistent;
  }

  /** Its stored form cannot be changed, since its block node is read-only. */
  get readOnly(): boolean {
    return this.#readOnly;
  }

  get successor(): DirtyBitmap | undefined {
    return this.#successor;
  }

  /** True when this bitmap or its successor takes note of writes (scenario BM-12). */
  get recording(): boolean {
    return this.#successor?.recording ?? this.#recording;
  }

  /** The bitmap that takes note of writes at present; undefined when none does. */
  get recordingBits(): Bitmap | undefined {
    if (this.#successor !== undefined) return this.#successor.recordingBits;
    return this.#recording && !this.#inconsistent ? this.#bits : undefined;
  }

  info(): DirtyBitmapInfo {
    return {
      name: this.name,
      granularityBytes: this.#bits.granularityBytes,
      countBytes: this.#bits.dirtyBytes,
      recording: this.recording,
      busy: this.#busy,
      persistent: this.persistent,
      inconsistent: this.#inconsistent,
      memoryBytes: this.#bits.memoryBytes,
    };
  }

  /** Throws kind `busy`, `denied` or `corrupt` where its state does not allow the use. */
  assertUsable(use: BitmapUse = {}): void {
    if (this.#busy) {
      const text = `Bitmap '${this.name}' is currently in use by another operation and cannot be used`;
      throw new EngineError('busy', text, { hint: 'Wait for the job or export that holds it, or end that.' });
    }
    if (this.#readOnly && use.readOnly !== true) {
      const text = `Bitmap '${this.name}' is readonly and cannot be modified`;
      throw new EngineError('denied', text, { hint: 'Reopen its block node for writing first.' });
    }
    if (this.#inconsistent && use.inconsistent !== true) {
      const text = `Bitmap '${this.name}' is inconsistent and cannot be used`;
      throw new EngineError('corrupt', text, { hint: 'Remove it and add it anew, then make a full backup.' });
    }
  }

  setRecording(recording: boolean): void {
    this.#recording = recording;
  }

  /** The bits missed writes, or may have: nothing but removal is left to do with it (scenario INV-10). */
  markInconsistent(): void {
    this.#inconsistent = true;
  }

  /** Whoever sets it has asked `assertUsable` before, and takes it back when the use ends. */
  setBusy(busy: boolean): void {
    this.#busy = busy;
  }

  /** For a bitmap whose stored form can, or cannot, be changed now. */
  setReadOnly(readOnly: boolean): void {
    this.#readOnly = readOnly;
  }

  /**
   * Freezes the bits for a job, which has asked `assertUsable` before; from here on writes go to the
   * successor, if this one was recording.
   */
  createSuccessor(): void {
    if (this.#successor !== undefined) throw new Error(`bitmap ${this.name} has a successor already`);
    this.#successor = new DirtyBitmap(this.#bits.sizeBytes, {
      granularityBytes: this.#bits.granularityBytes,
      recording: this.#recording,
    });
    this.#busy = true;
  }

  /** The job took care of all frozen bits: the successor's become this bitmap's. */
  abdicate(): void {
    const successor = this.#takeSuccessor();
    this.#bits = successor.#bits;
  }

  /** The frozen bits still stand: the successor's are added to them. */
  reclaim(): void {
    this.#bits.merge(this.#takeSuccessor().#bits);
  }

  truncate(sizeBytes: number): void {
    this.assertUsable();
    this.#bits.truncate(sizeBytes);
  }

  #takeSuccessor(): DirtyBitmap {
    const successor = this.#successor;
    if (successor === undefined) throw new Error(`bitmap ${this.name} has no successor`);
    this.#recording = successor.#recording;
    this.#successor = undefined;
    this.#busy = false;
    return successor;
  }
}

export function validateName(name: string | undefined): void {
  if (name === undefined) return;
  if (name === '') throw new EngineError('invalid-argument', 'Bitmap name cannot be empty');
  if (Buffer.byteLength(name) <= BITMAP_NAME_BYTES_MAX) return;
  throw new EngineError('invalid-argument', `Bitmap name too long: ${name}`, {
    hint: `It has ${Buffer.byteLength(name)} bytes; at most ${BITMAP_NAME_BYTES_MAX} will do.`,
  });
}

export function validateGranularity(granularityBytes: number): void {
  if (isPowerOfTwo(granularityBytes) && granularityBytes >= GRANULARITY_BYTES_MIN) {
    if (granularityBytes <= GRANULARITY_BYTES_MAX) return;
  }
  throw new EngineError('invalid-argument', 'Granularity must be power of 2 and at least 512', {
    hint: `${granularityBytes} bytes will not do; the largest is ${GRANULARITY_BYTES_MAX}.`,
  });
}

/** Bytes per bit where the caller does not say: the cluster size, within 4 KiB and 64 KiB (scenario BM-01). */
export function defaultGranularityBytes(clusterSizeBytes: number | undefined): number {
  const { min, max } = Math;
  return max(min(clusterSizeBytes ?? GRANULARITY_BYTES_DEFAULT, GRANULARITY_BYTES_DEFAULT), 4 * KiB);
}
