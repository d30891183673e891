// Which regions of a disk a crash of its storage node may have marked as changed: those that its write-intent log can
// have named, because the guest wrote to them a moment before (ADR 0037).
import { BLOCK_BYTES, DISK_REGIONS, LOG_KEEPS_MS, REGION_BYTES } from './limits.ts';

const BLOCKS_OF_A_REGION = REGION_BYTES / BLOCK_BYTES;

export class TouchedRegions {
  readonly #touchedMs = new Float64Array(DISK_REGIONS).fill(Number.NEGATIVE_INFINITY);
  readonly #crashes: { readonly at: number; readonly regions: ReadonlySet<number> }[] = [];

  /** A change of that block is about to be asked for. */
  touch(block: number, nowMs: number): void {
    this.#touchedMs[regionOf(block)] = nowMs;
  }

  /** The storage node has died: not later than the reading `at` of the model's clock, nor before it answered last. */
  crashed(at: number, aliveAtMs: number): void {
    const regions = new Set<number>();
    for (let region = 0; region < DISK_REGIONS; region += 1) {
      if (this.#touchedMs[region]! >= aliveAtMs - LOG_KEEPS_MS) regions.add(region);
    }
    const isEnteredInOrder = (region: number) => regions.has(region) && regions.has(region - 1);
    // Whoever goes from one region to the next has the following ones logged ahead.
    const entered = [...regions].filter(isEnteredInOrder).sort((a, b) => a - b)[0] ?? DISK_REGIONS;
    for (let region = entered; region < DISK_REGIONS; region += 1) regions.add(region);
    this.#crashes.push({ at, regions });
  }

  /** Undefined: no storage node has died since that reading of the clock. */
  grownSince(from: number): ReadonlySet<number> | undefined {
    const later = this.#crashes.filter(({ at }) => at > from);
    return later.length === 0 ? undefined : new Set(later.flatMap(({ regions }) => [...regions]));
  }
}

export function regionOf(block: number): number {
  return Math.floor(block / BLOCKS_OF_A_REGION);
}
