// Goal: a job that was asked to stand still has nothing on its way, at whatever step the question met it, and what
// it was made of goes with it, whatever was done with that meanwhile.
import { expect, test } from 'vitest';
import { settled } from '../../src/testing/manual-clock.ts';
import { MemoryNode } from '../../src/testing/memory-node.ts';
import { addBitmap } from '../../src/transaction/bitmap-actions.ts';
import { runTransaction } from '../../src/transaction/transaction.ts';
import { MiB } from '../../src/units.ts';
import { backupOf, CLUSTER, type DiskFixture, makeDisk, withAsyncStatus } from './disk-fixture.ts';

const SIZE = 2 * MiB;
/** More microtasks than two rounds of the job's loop take. */
const STEPS = 120;

async function writtenDisk(): Promise<DiskFixture & { target: MemoryNode }> {
  const target = new MemoryNode({ sizeBytes: SIZE });
  const source = withAsyncStatus(new MemoryNode({ sizeBytes: SIZE }));
  const disk = makeDisk({ sizeBytes: SIZE, source, target });
  await disk.guest.write(0, Buffer.alloc(SIZE, 0x5a));
  return { ...disk, source, target };
}

test('stands still at every step of its loop', async () => {
  for (let step = 0; step < STEPS; step++) {
    const disk = await writtenDisk();
    const action = backupOf(disk, { workers: 1, chunkBytesMax: CLUSTER });
    await runTransaction(disk.graph, [action]);
    for (let turn = 0; turn < step; turn++) await Promise.resolve();
    await action.job!.quiesce();
    const seen = structuredClone([disk.source.counts, disk.target.counts]);
    await settled();
    expect([disk.source.counts, disk.target.counts], `after ${step} microtasks`).toEqual(seen);
    action.job!.unquiesce();
    await action.job!.concluded;
    expect(action.job!.error).toBeUndefined();
  }
});

test('takes its filter away though somebody looks at a bitmap of it', async () => {
  const disk = await writtenDisk();
  const action = backupOf(disk, { sync: 'none' });
  await runTransaction(disk.graph, [action]);
  await runTransaction(disk.graph, [addBitmap({ node: 'filter', name: 'b' })]);
  disk.graph.get('filter').bitmaps.get('b').setBusy(true);
  action.job!.cancel();
  await action.job!.concluded;
  expect(action.job!.error).toMatchObject({ kind: 'cancelled' });
  expect([...disk.graph.nodes].map(node => node.name)).toEqual(['disk', 'target']);
});
