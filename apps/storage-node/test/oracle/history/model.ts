// The plainest idea of a disk and its bitmaps, to hold each step of a history against (invariants INV-1, INV-2,
// INV-5, INV-6 and INV-12): bytes, and sets of granules.
import { type BackupStep, type BitmapStep, DISK_BYTES, type GuestStep, namesOf } from './history.ts';

interface ModelBitmap {
  readonly granularity: number;
  recording: boolean;
  /** Indexes of dirty granules; undefined where the outcome allows several sets. */
  dirty: Set<number> | undefined;
}

export class Model {
  readonly bytes = Buffer.alloc(DISK_BYTES);
  #bitmaps = new Map<string, ModelBitmap>();

  get bitmaps(): ReadonlyMap<string, ModelBitmap> {
    return this.#bitmaps;
  }

  guest({ guest, offset, length, byte }: GuestStep): void {
    this.bytes.fill(guest === 'write' ? byte : 0, offset, offset + length);
    for (const bitmap of this.#bitmaps.values()) if (bitmap.recording) mark(bitmap, offset, length);
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
      });
      return true;
    }
    if (known === undefined) return false;
    switch (step.bitmap) {
      case 'remove':
        return this.#bitmaps.delete(step.name);
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

  /** What becomes of the bitmap: `written` is what guests wrote while it was frozen. */
  afterBackup(
    step: BackupStep,
    outcome: { failed: boolean; cancelled: boolean; written: readonly GuestStep[] },
  ): void {
    const bitmap = step.name === undefined ? undefined : this.#bitmaps.get(step.name);
    if (bitmap === undefined) return;
    const mode = step.backup === 'incremental' ? 'on-success' : step.mode!;
    if (mode === 'always' && outcome.failed) {
      // Part of it was copied: which part is the daemons' business, as long as both say the same.
      bitmap.dirty = undefined;
      return;
    }
    const succeeded = !outcome.failed && !outcome.cancelled;
    const cleared = mode === 'always' || (mode === 'on-success' && succeeded);
    if (!cleared) return;
    bitmap.dirty = new Set();
    if (bitmap.recording) for (const { offset, length } of outcome.written) mark(bitmap, offset, length);
  }

  #merge(into: ModelBitmap, from: readonly string[]): boolean {
    const sources = from.map(name => this.#bitmaps.get(name));
    if (sources.some(source => source === undefined)) return false;
    for (const source of sources) {
      if (source!.dirty === undefined) into.dirty = undefined;
      else for (const index of source!.dirty) mark(into, index * source!.granularity, source!.granularity);
    }
    return true;
  }
}

function mark({ dirty, granularity }: ModelBitmap, offset: number, length: number): void {
  const last = Math.floor((Math.min(offset + length, DISK_BYTES) - 1) / granularity);
  for (let index = Math.floor(offset / granularity); index <= last; index++) dirty?.add(index);
}

function copyOf({ granularity, recording, dirty }: ModelBitmap): ModelBitmap {
  return { granularity, recording, dirty: dirty && new Set(dirty) };
}
