// Goal: an audit's sample is of clean clusters alone, has the size that was asked for, gives each clean cluster the
// same chance, lies all over the disk, and is the same for the same seed.
import { Bitmap } from '@tidemark/engine';
import { expect, test } from 'vitest';
import { CLUSTER_BYTES } from '../sums/sums-format.ts';
import { chooseSample, inClusters } from './audit-sample.ts';

const CLUSTERS = 300;
const SIZE = CLUSTERS * CLUSTER_BYTES - 512;

/** Every third cluster is dirty, and the first fifty are. */
function someDirty(): Bitmap {
  const dirty = new Bitmap(SIZE, CLUSTER_BYTES);
  for (let cluster = 0; cluster < CLUSTERS; cluster++) {
    if (cluster < 50 || cluster % 3 === 0) dirty.set(cluster * CLUSTER_BYTES, 1);
  }
  return dirty;
}

const clustersOf = (bitmap: Bitmap) =>
  Array.from({ length: CLUSTERS }, (_, cluster) => cluster).filter(cluster =>
    bitmap.get(cluster * CLUSTER_BYTES),
  );

test('clean clusters alone are chosen, as many as asked for', () => {
  const dirty = someDirty();
  for (let seed = 0; seed < 50; seed++) {
    const chosen = clustersOf(chooseSample(dirty, { sampleBytes: 20 * CLUSTER_BYTES, seed }));
    expect(chosen.length).toBe(20);
    expect(chosen.filter(cluster => dirty.get(cluster * CLUSTER_BYTES))).toEqual([]);
  }
});

test('0 stands for all of them, and so does more than there are', () => {
  const dirty = someDirty();
  const clean = CLUSTERS - dirty.dirtyGranules;
  for (const sampleBytes of [0, clean * CLUSTER_BYTES, 2 ** 40]) {
    expect(clustersOf(chooseSample(dirty, { sampleBytes, seed: 1 })).length).toBe(clean);
  }
  dirty.setAll();
  expect(clustersOf(chooseSample(dirty, { sampleBytes: 0, seed: 1 }))).toEqual([]);
});

test('the same seed gives the same sample, another one another', () => {
  const dirty = someDirty();
  const choose = (seed: number) => clustersOf(chooseSample(dirty, { sampleBytes: 20 * CLUSTER_BYTES, seed }));
  expect(choose(7)).toEqual(choose(7));
  expect(choose(7)).not.toEqual(choose(8));
});

// The parts are 1 or 2 clusters long at 120 of 167, 8 or 9 at 20.
test.each([20, 120])('each clean cluster has the same chance, at %d of 167', wanted => {
  const dirty = someDirty();
  const clean = CLUSTERS - dirty.dirtyGranules;
  const rounds = 4_000;
  const counts = new Map<number, number>();
  for (let seed = 1; seed <= rounds; seed++) {
    for (const cluster of clustersOf(chooseSample(dirty, { sampleBytes: wanted * CLUSTER_BYTES, seed }))) {
      counts.set(cluster, (counts.get(cluster) ?? 0) + 1);
    }
  }
  expect(counts.size).toBe(clean);
  const expected = (rounds * wanted) / clean;
  const deviation = Math.sqrt(expected * (1 - wanted / clean));
  // Of 167 such counts one beyond five deviations comes up once in ten thousand such tests.
  for (const count of counts.values()) expect(Math.abs(count - expected)).toBeLessThan(5 * deviation);
});

test('a sample lies all over the disk', () => {
  const clean = new Bitmap(SIZE, CLUSTER_BYTES);
  const chosen = clustersOf(chooseSample(clean, { sampleBytes: 30 * CLUSTER_BYTES, seed: 3 }));
  const gaps = chosen.slice(1).map((cluster, index) => cluster - chosen[index]!);
  // One of each ten clusters: neighbours are fewer than twenty apart.
  expect(Math.max(...gaps)).toBeLessThan(20);
});

test('a cluster that is dirty in part is dirty', () => {
  const fine = new Bitmap(SIZE, 4096);
  fine.set(5 * CLUSTER_BYTES + 8192, 512);
  expect(clustersOf(inClusters(fine))).toEqual([5]);
});
