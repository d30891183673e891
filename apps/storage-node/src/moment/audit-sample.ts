// Which of the clean clusters of a disk an audit looks at: each with the same chance, spread over all of them, and the
// same ones for the same seed.
import { Bitmap } from '@tidemark/engine';
import { CLUSTER_BYTES } from '../sums/sums-format.ts';

/** Clusters chosen one by one: 256 GiB of disk, with 32 MiB of indices; whoever wants more looks at all. */
const CHOSEN_MAX = 4 * 1024 * 1024;

/** Dirty areas by clusters: one that is dirty in part counts as dirty. */
export function inClusters(dirty: Bitmap): Bitmap {
  const clusters = new Bitmap(dirty.sizeBytes, CLUSTER_BYTES);
  clusters.merge(dirty);
  return clusters;
}

/** Takes out what is dirty; both are by clusters. */
export function leaveOut(sample: Bitmap, dirty: Bitmap): void {
  for (const { offset, length } of dirty.dirtyAreas()) sample.reset(offset, length);
}

/**
 * A bitmap by clusters with the chosen ones marked: as many as `sampleBytes` begins, or all clean ones where there are
 * no more, or where it is 0.
 */
export function chooseSample(
  dirty: Bitmap,
  { sampleBytes, seed }: { sampleBytes: number; seed: number },
): Bitmap {
  const sample = new Bitmap(dirty.sizeBytes, CLUSTER_BYTES);
  const clean = dirty.granules - dirty.dirtyGranules;
  const wanted = sampleBytes === 0 ? clean : Math.ceil(sampleBytes / CLUSTER_BYTES);
  if (wanted >= clean || wanted > CHOSEN_MAX) {
    sample.setAll();
    leaveOut(sample, dirty);
    return sample;
  }
  const chosen = chooseIndices(clean, wanted, seed);
  let before = 0;
  let next = 0;
  for (const { offset, length } of cleanAreas(dirty)) {
    const clusters = Math.ceil(length / CLUSTER_BYTES);
    for (; next < chosen.length && chosen[next]! < before + clusters; next++) {
      const at = offset + (chosen[next]! - before) * CLUSTER_BYTES;
      sample.set(at, Math.min(CLUSTER_BYTES, dirty.sizeBytes - at));
    }
    before += clusters;
  }
  return sample;
}

/**
 * `wanted` different numbers below `count`, ascending: one of each of as many equal parts, which all begin at a place
 * chosen by chance, so that parts that differ by one in size give nobody a smaller chance.
 */
function chooseIndices(count: number, wanted: number, seed: number): Float64Array {
  const random = randomFractions(seed);
  const start = Math.floor(random() * count);
  const chosen = new Float64Array(wanted);
  for (let part = 0; part < wanted; part++) {
    const first = Math.floor((part * count) / wanted);
    const length = Math.floor(((part + 1) * count) / wanted) - first;
    chosen[part] = (start + first + Math.floor(random() * length)) % count;
  }
  return chosen.sort();
}

function* cleanAreas(dirty: Bitmap): IterableIterator<{ offset: number; length: number }> {
  let from = 0;
  for (const { offset, length } of dirty.dirtyAreas()) {
    if (offset > from) yield { offset: from, length: offset - from };
    from = offset + length;
  }
  if (from < dirty.sizeBytes) yield { offset: from, length: dirty.sizeBytes - from };
}

/** Numbers in [0, 1) by mulberry32: nothing depends on nobody guessing them. */
function randomFractions(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
