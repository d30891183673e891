// Goal: never more on disk than the limit, and nobody refused before it is near. Method: a node in memory
// stands for the image, a seeded run compares what was paid with the clusters that were really touched.
import { EngineError, KiB, MiB } from '@tidemark/engine';
import { describeBlockNode, MemoryNode } from '@tidemark/engine/testing';
import { expect, test } from 'vitest';
import { QuotaNode } from './quota-node.ts';
import { SpaceBudget } from './space-budget.ts';

const CLUSTER = 64 * KiB;
/** What one cluster costs, and the first of an L2 table's range. */
const ONE = CLUSTER + 4;

function build(limitBytes: number, sizeBytes = 8 * MiB) {
  const image = new MemoryNode({ sizeBytes, clusterSizeBytes: CLUSTER });
  const budget = new SpaceBudget(limitBytes);
  return { image, budget, node: new QuotaNode(image, { budget }) };
}

describeBlockNode('quota without a limit', {
  create: async sizeBytes => build(Number.POSITIVE_INFINITY, sizeBytes).node,
});

test('a cluster is paid once, with its table', async () => {
  const { budget, node } = build(Number.POSITIVE_INFINITY);
  await node.write(10, Buffer.alloc(100, 1));
  expect(budget.usedBytes).toBe(2 * ONE);
  await node.write(0, Buffer.alloc(CLUSTER, 1));
  expect(budget.usedBytes).toBe(2 * ONE);
  await node.write(CLUSTER - 1, Buffer.alloc(2, 1));
  expect(budget.usedBytes).toBe(3 * ONE);
  expect(node.isUntouched).toBe(false);
});

test('a write that does not fit fails with ENOSPC, writes nothing and takes nothing', async () => {
  const { image, budget, node } = build(3 * ONE);
  await node.write(0, Buffer.alloc(2 * CLUSTER, 1));
  const refused = node.write(2 * CLUSTER, Buffer.alloc(1, 1));
  await expect(refused).rejects.toBeInstanceOf(EngineError);
  await expect(refused).rejects.toMatchObject({ kind: 'io', context: { errno: 'ENOSPC' } });
  expect(image.counts.write).toBe(1);
  expect(budget.usedBytes).toBe(3 * ONE);
  await node.write(CLUSTER, Buffer.alloc(CLUSTER, 2));
  expect(image.counts.write).toBe(2);
});

test('zeroing costs tables and the clusters cut at both ends, whether unmapping or not', async () => {
  const { budget, node } = build(Number.POSITIVE_INFINITY);
  await node.writeZeroes(0, 16 * CLUSTER, { mayUnmap: true });
  expect(budget.usedBytes).toBe(ONE);
  await node.writeZeroes(20 * CLUSTER + 1, 4 * CLUSTER, { mayUnmap: true });
  expect(budget.usedBytes).toBe(3 * ONE);
  await node.writeZeroes(40 * CLUSTER, 4 * CLUSTER, { mayUnmap: false });
  expect(budget.usedBytes).toBe(3 * ONE);
  await node.writeZeroes(50 * CLUSTER + 1, 2, { mayUnmap: true });
  expect(budget.usedBytes).toBe(4 * ONE);
  await node.writeZeroes(100 * CLUSTER, 28 * CLUSTER, { mayUnmap: true });
  expect(budget.usedBytes).toBe(4 * ONE);
});

test('the image never gives up a cluster, which it might then take twice', async () => {
  const { image, node } = build(Number.POSITIVE_INFINITY);
  await node.write(0, Buffer.alloc(CLUSTER, 1));
  await node.discard();
  await node.writeZeroes(0, CLUSTER, { mayUnmap: true });
  expect(image.counts.discard).toBe(0);
  expect(await image.allocatedBytes()).toBe(CLUSTER);
});

test('a disk that ends inside a cluster pays for the whole of it', async () => {
  const { budget, node } = build(Number.POSITIVE_INFINITY, CLUSTER + 512);
  await node.write(CLUSTER, Buffer.alloc(512, 1));
  expect(budget.usedBytes).toBe(2 * ONE);
});

test('scattered writes pay for exactly the clusters they touch', async () => {
  const { budget, node } = build(Number.POSITIVE_INFINITY);
  const touched = new Set<number>();
  let seed = 12345;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  for (let round = 0; round < 300; round++) {
    const offset = random(8 * MiB - 300 * KiB);
    const length = 1 + random(300 * KiB - 1);
    await node.write(offset, Buffer.alloc(length, 1));
    const last = Math.floor((offset + length - 1) / CLUSTER);
    for (let cluster = Math.floor(offset / CLUSTER); cluster <= last; cluster++) touched.add(cluster);
    expect(budget.usedBytes).toBe((touched.size + 1) * ONE);
  }
});
