// Goal: a restore brings back all that can be read, whatever else cannot, and only what it was asked for. Method: disks
// in memory, a source that fails at some places.
import { expect, test } from 'vitest';
import type { Bitmap } from '../bitmap/bitmap.ts';
import { systemClock } from '../clock.ts';
import { BlockGraph } from '../graph/block-graph.ts';
import { FaultyNode } from '../testing/faulty-node.ts';
import { MemoryNode } from '../testing/memory-node.ts';
import { KiB } from '../units.ts';
import { RestoreJob, type RestoreJobOptions } from './restore-job.ts';

const CLUSTER = 64 * KiB;
const DISK_BYTES = 40 * CLUSTER + 5 * KiB;

/** Cluster n of the source holds bytes n + 1. */
async function world({ failing = [], errno = 'EIO' }: { failing?: number[]; errno?: string } = {}) {
  const disk = new MemoryNode({ sizeBytes: DISK_BYTES });
  for (let at = 0; at < DISK_BYTES; at += CLUSTER) {
    await disk.write(at, Buffer.alloc(Math.min(CLUSTER, DISK_BYTES - at), at / CLUSTER + 1));
  }
  const rules = failing.map(cluster => ({ event: 'read' as const, offset: cluster * CLUSTER + 100, errno }));
  const target = new MemoryNode({ sizeBytes: DISK_BYTES });
  const graph = new BlockGraph();
  graph.add({ name: 'source' }, () => new FaultyNode(disk, { rules }));
  graph.add({ name: 'target' }, () => target);
  const restore = async (options: Partial<RestoreJobOptions> = {}) => {
    const nodes = { graph, sourceNode: 'source', targetNode: 'target', targetIsZero: true };
    const job = new RestoreJob({ id: 'restore0', clock: systemClock, ...nodes, ...options });
    job.start();
    await job.concluded;
    return job;
  };
  const clusters = async () => {
    const all = Buffer.alloc(DISK_BYTES);
    await target.read(0, all);
    return Array.from({ length: 41 }, (_, cluster) => all[cluster * CLUSTER]!);
  };
  return { restore, clusters };
}

test('clusters that cannot be read are told and left out, and all others are there', async () => {
  const failing = [0, 7, 8, 21, 40];
  const { restore, clusters } = await world({ failing });
  const told: number[] = [];
  const onUnreadable = (offset: number, length: number) => {
    expect(length).toBe(Math.min(CLUSTER, DISK_BYTES - offset));
    told.push(offset / CLUSTER);
  };
  expect((await restore({ onUnreadable })).error).toBeUndefined();
  expect(told.sort((a, b) => a - b)).toEqual(failing);
  expect(await clusters()).toEqual(
    Array.from({ length: 41 }, (_, index) => (failing.includes(index) ? 0 : index + 1)),
  );
});

test('such a cluster ends a restore that nobody lets go on', async () => {
  const { restore } = await world({ failing: [7] });
  expect((await restore()).error).toMatchObject({ kind: 'io', context: { errno: 'EIO' } });
});

test('a lost connection is no damage', async () => {
  const { restore } = await world({ failing: [7], errno: 'ECONNRESET' });
  const told: number[] = [];
  const job = await restore({ onUnreadable: offset => told.push(offset) });
  expect(job.error).toMatchObject({ context: { errno: 'ECONNRESET' } });
  expect(told).toEqual([]);
});

test('only what is left in the bitmap is copied', async () => {
  const { restore, clusters } = await world();
  const narrow = async (copy: Bitmap, rest: () => Promise<void>) => {
    await rest();
    copy.clear();
    copy.set(3 * CLUSTER, CLUSTER);
    copy.set(40 * CLUSTER, 1);
  };
  const job = await restore({ narrow });
  expect(job.info()).toMatchObject({ sentBytes: CLUSTER + 5 * KiB, error: undefined });
  expect((await clusters()).flatMap((byte, index) => (byte === 0 ? [] : [index]))).toEqual([3, 40]);
});
