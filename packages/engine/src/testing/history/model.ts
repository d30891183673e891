// The plainest idea of a disk and its bitmaps, to hold each step of a history against: bytes, and sets of
// granules.
import {
  type BackupStep,
  type BitmapStep,
  DISK_BYTES,
  type GuestStep,
  HISTORY_CLUSTER_BYTES,
  namesOf,
} from './history.ts';

export interface ModelBitmap {
  readonly granularity: number;
  recording: boolean;
  /** Indexes of dirty granules; undefined where the outcome allows several sets. Frozen while a job has it. */
  dirty: Set<number> | undefined;
  /** What was written since a job has it; undefined while none has. */
  since: Set<number> | undefined;
  /** Its image was not closed properly. */
  inconsistent: boolean;
}

export interface BackupOutcome {
  readonly failed: boolean;
  readonly cancelled: boolean;
  /** Clusters that were to be copied and were not; undefined where nobody can tell. */
  readonly uncopied?: Iterable<number> | undefined;
}

export class Model {
  readonly bytes = Buffer.alloc(DISK_BYTES);
  #bitmaps = new Map<string, ModelBitmap>();

  get bitmaps(): ReadonlyMap<string, ModelBitmap> {
    return this.#bitmaps;
  }

  guest(step: GuestStep): void {
    this.touch(step);
    this.fill(step);
  }

  /** The request reaches the disk: bitmaps take note of it. */
  touch({ offset, length }: { offset: number; length: number }): void {
    for (const bitmap of this.#bitmaps.values()) {
      if (bitmap.recording && !bitmap.inconsistent)
        mark(bitmap, bitmap.since ?? bitmap.dirty, offset, length);
    }
  }

  /** The request is done. */
  fill({ guest, offset, length, byte }: GuestStep): void {
    this.bytes.fill(guest === 'write' ? byte : 0, offset, offset + length);
  }

  /** Returns whether it is accepted. */
  bitmap(step: BitmapStep): boolean {
    const known = this.#bitmaps.get(step.name);
    if (step.bitmap === 'add') {
      if (known !== undefined) return false;
      this.#bitmaps.set(step.name, {
        granularity: step.granularity,
        recording: !step.disabled,
        dirty: new Set(),
        since: undefined,
        inconsistent: false,
      });
      return true;
    }
    if (known === undefined || known.since !== undefined) return false;
    if (step.bitmap === 'remove') return this.#bitmaps.delete(step.name);
    if (known.inconsistent) return false;
    switch (step.bitmap) {
      case 'clear':
        known.dirty = new Set();
        return true;
      case 'merge':
        return this.#merge(known, step.from);
      default:
        known.recording = step.bitmap === 'enable';
        return true;
    }
  }

  /** All or none. */
  transaction(actions: readonly (BitmapStep | 'abort')[]): boolean {
    const before = new Map([...this.#bitmaps].map(([name, bitmap]) => [name, copyOf(bitmap)]));
    // What is removed keeps its name, and is held, until the transaction commits.
    const removed = new Set<string>();
    const accepts = (action: BitmapStep | 'abort'): boolean => {
      if (action === 'abort' || namesOf(action).some(name => removed.has(name))) return false;
      if (action.bitmap === 'remove') removed.add(action.name);
      return this.bitmap(action);
    };
    if (actions.every(accepts)) return true;
    this.#bitmaps = before;
    return false;
  }

  /** The bitmap's image was not closed properly: it is not trusted any more. */
  distrust(name: string): void {
    const bitmap = this.#bitmaps.get(name);
    if (bitmap !== undefined) bitmap.inconsistent = true;
  }

  /** Freezes its bitmap. */
  startBackup({ name }: BackupStep): void {
    const bitmap = name === undefined ? undefined : this.#bitmaps.get(name);
    if (bitmap !== undefined) bitmap.since = new Set();
  }

  /** What becomes of the bitmap. */
  endBackup(step: BackupStep, outcome: BackupOutcome): void {
    const bitmap = step.name === undefined ? undefined : this.#bitmaps.get(step.name);
    if (bitmap?.since === undefined) return;
    const mode = step.backup === 'incremental' ? 'on-success' : step.mode!;
    const succeeded = !outcome.failed && !outcome.cancelled;
    let dirty = bitmap.dirty;
    if (mode === 'on-success' && succeeded) dirty = new Set();
    // What stays dirty is what is not on the target.
    if (mode === 'always') dirty = succeeded ? new Set() : granulesOf(outcome.uncopied, bitmap.granularity);
    bitmap.dirty = dirty && new Set([...dirty, ...bitmap.since]);
    bitmap.since = undefined;
  }

  /** Where the outcome allowed several sets: this is the one. */
  adopt(name: string, dirty: Set<number>): void {
    this.#bitmaps.get(name)!.dirty = dirty;
  }

  #merge(into: ModelBitmap, from: readonly string[]): boolean {
    const sources = from.map(name => this.#bitmaps.get(name));
    if (sources.some(source => source === undefined || source.since !== undefined || source.inconsistent)) {
      return false;
    }
    for (const source of sources) {
      if (source!.dirty === undefined) into.dirty = undefined;
      else
        for (const index of source!.dirty)
          mark(into, into.dirty, index * source!.granularity, source!.granularity);
    }
    return true;
  }
}

/** The granules that whole clusters touch. */
export function granulesOf(
  clusters: Iterable<number> | undefined,
  granularity: number,
): Set<number> | undefined {
  if (clusters === undefined) return undefined;
  const granules = new Set<number>();
  for (const cluster of clusters) {
    mark({ granularity }, granules, cluster * HISTORY_CLUSTER_BYTES, HISTORY_CLUSTER_BYTES);
  }
  return granules;
}

function mark(
  { granularity }: { granularity: number },
  dirty: Set<number> | undefined,
  offset: number,
  length: number,
): void {
  const last = Math.floor((Math.min(offset + length, DISK_BYTES) - 1) / granularity);
  for (let index = Math.floor(offset / granularity); index <= last; index++) dirty?.add(index);
}

function copyOf(bitmap: ModelBitmap): ModelBitmap {
  return {
    ...bitmap,
    dirty: bitmap.dirty && new Set(bitmap.dirty),
    since: bitmap.since && new Set(bitmap.since),
  };
}
