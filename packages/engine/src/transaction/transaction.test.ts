// Goal: transactions at the same time come one after the other, also where preparing one takes time.
// Method: an action that a test lets be prepared by hand.
import { expect, test } from 'vitest';
import { BlockGraph } from '../graph/block-graph.ts';
import { settled } from '../testing/manual-clock.ts';
import { MemoryNode } from '../testing/memory-node.ts';
import { MiB } from '../units.ts';
import { addBitmap, applyAction, removeBitmap } from './bitmap-actions.ts';
import { runTransaction, type TransactionAction } from './transaction.ts';

const B = { node: 'disk', name: 'b' };

function slowAction(go: Promise<void>): TransactionAction {
  return {
    kind: 'slow',
    nodes: () => [],
    async prepare() {
      await go;
      return {};
    },
  };
}

function makeDisk() {
  const graph = new BlockGraph();
  const disk = graph.add({ name: 'disk' }, () => new MemoryNode({ sizeBytes: MiB }));
  const go = Promise.withResolvers<void>();
  return { graph, disk, go };
}

test('a transaction does not look at what another one is about to change', async () => {
  const { graph, disk, go } = makeDisk();
  const first = runTransaction(graph, [addBitmap(B), slowAction(go.promise)]);
  await settled();
  const second = runTransaction(graph, [addBitmap(B)]);
  await settled();
  go.resolve();
  await first;
  await expect(second).rejects.toThrow('Bitmap already exists: b');
  expect(disk.bitmaps.all).toHaveLength(1);
});

test('a single change waits for its turn, and what it throws keeps nobody', async () => {
  const { graph, disk, go } = makeDisk();
  const first = runTransaction(graph, [addBitmap(B), slowAction(go.promise)]);
  await settled();
  const refused = graph.inTurn(() => applyAction(graph, addBitmap(B)));
  const removed = graph.inTurn(() => applyAction(graph, removeBitmap(B)));
  go.resolve();
  await first;
  await expect(refused).rejects.toThrow('Bitmap already exists: b');
  await removed;
  expect(disk.bitmaps.all).toHaveLength(0);
});

test('who waits for a guest that hangs keeps nobody else from a turn', async () => {
  const { graph, disk } = makeDisk();
  const other = graph.add({ name: 'other' }, () => new MemoryNode({ sizeBytes: MiB }));
  const rest = Promise.withResolvers<void>();
  disk.writers.add({ quiesce: () => rest.promise, unquiesce: () => {} });
  const hanging = runTransaction(graph, [addBitmap(B)]);
  await runTransaction(graph, [addBitmap({ node: 'other', name: 'b' })]);
  expect([disk.bitmaps.all.length, other.bitmaps.all.length]).toEqual([0, 1]);
  rest.resolve();
  await hanging;
});
