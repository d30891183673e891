// Goal: a disk that is mostly empty is compared in no time, and nothing beyond the emptiness is missed. Method: an
// image and checksums of which only some clusters are there, with a count of what was looked at.
import { appendExtent, type Extent } from '@tidemark/engine';
import { expect, test } from 'vitest';
import { type ClusterFault, compareWithSums } from './compare-with-sums.ts';
import { CLUSTER_BYTES, clusterDigest, RECORD_BYTES } from './sums-format.ts';

const CLUSTERS = 16 * 1024 * 1024;
const BYTES = Buffer.alloc(CLUSTER_BYTES, 7);

function makeDisk({ own, summed }: { own: readonly number[]; summed: readonly number[] }) {
  const looks = { extents: 0, records: 0 };
  const next = (list: readonly number[], from: number) => list.find(cluster => cluster >= from) ?? CLUSTERS;
  const image = {
    sizeBytes: CLUSTERS * CLUSTER_BYTES,
    read: (_offset: number, buffer: Buffer) => void BYTES.copy(buffer),
    extents(offset: number, length: number): Extent[] {
      looks.extents++;
      const extents: Extent[] = [];
      const end = (offset + length) / CLUSTER_BYTES;
      for (let at = offset / CLUSTER_BYTES; at < end; ) {
        const data = own.includes(at);
        const to = data ? at + 1 : Math.min(next(own, at), end);
        const place = { offset: at * CLUSTER_BYTES, length: (to - at) * CLUSTER_BYTES };
        appendExtent(extents, { ...place, data, zero: !data, depth: data ? 1 : 0 });
        at = to;
      }
      return extents;
    },
  };
  const records = {
    count: CLUSTERS,
    records: async (first: number, count: number) => {
      looks.records++;
      const found = Buffer.alloc(count * RECORD_BYTES);
      for (const cluster of summed) {
        if (cluster < first || cluster >= first + count) continue;
        clusterDigest(BYTES).copy(found, (cluster - first) * RECORD_BYTES);
      }
      return found;
    },
    silentUntil: async (first: number) => next(summed, first),
  };
  return { image, records, looks };
}

async function faultsOf(disk: ReturnType<typeof makeDisk>): Promise<Pick<ClusterFault, 'kind' | 'offset'>[]> {
  const faults: ClusterFault[] = [];
  let seen = 0;
  const pace = async ({ seenBytes }: { seenBytes: number }) => {
    seen += seenBytes;
  };
  await compareWithSums({ ...disk, onFault: fault => faults.push(fault), pace });
  expect(seen).toBe(disk.image.sizeBytes);
  return faults.map(({ kind, offset }) => ({ kind, offset }));
}

test('what is empty on both sides is passed over', async () => {
  const there = [5, 70_000, CLUSTERS - 1];
  const disk = makeDisk({ own: there, summed: there });
  expect(await faultsOf(disk)).toEqual([]);
  expect(disk.looks.records).toBe(3);
  expect(disk.looks.extents).toBeLessThan(20);
});

test.each([
  ['missing', { own: [1], summed: [1, 9_000_001] }],
  ['unexpected', { own: [1, 9_000_001], summed: [1] }],
] as const)('a cluster that is %s far behind the last one is found', async (kind, disk) => {
  expect(await faultsOf(makeDisk(disk))).toEqual([{ kind, offset: 9_000_001 * CLUSTER_BYTES }]);
});
