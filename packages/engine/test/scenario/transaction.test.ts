// Goal: a transaction happens at one instant or not at all. Method: scenarios TX-01 to TX-13 over a memory
// disk, with the clusters of fixture F236.
import { describe, expect, it } from 'vitest';
import { MemoryNode } from '../../src/testing/memory-node.ts';
import {
  abortTransaction,
  addBitmap,
  clearBitmap,
  disableBitmap,
  enableBitmap,
  mergeBitmaps,
  removeBitmap,
} from '../../src/transaction/bitmap-actions.ts';
import { runTransaction } from '../../src/transaction/transaction.ts';
import { KiB, MiB } from '../../src/units.ts';
import { backupOf, CLUSTER, type DiskFixture, makeDisk } from './disk-fixture.ts';

const P = [0, 0x10_0000, 0x200_0000, 0x3ff_0000];
const W = [0, 0xf_8000, 0x200_8000, 0x3fe_0000];
const ref = (name: string) => ({ node: 'disk', name });
const add = (name: string, recording = true) =>
  addBitmap({ ...ref(name), granularityBytes: CLUSTER, recording });

async function fixture(): Promise<DiskFixture> {
  const disk = makeDisk({ sizeBytes: 64 * MiB, target: new MemoryNode({ sizeBytes: 64 * MiB }) });
  await runTransaction(disk.graph, [add('A'), add('B')]);
  await write(disk, P);
  return disk;
}

async function write(disk: DiskFixture, offsets: readonly number[]): Promise<void> {
  for (const offset of offsets) await disk.guest.write(offset, Buffer.alloc(64 * KiB, 0x5d));
}

const counts = (disk: DiskFixture) =>
  Object.fromEntries(
    disk.graph
      .get('disk')
      .bitmaps.query()
      .map(({ name, countBytes }) => [name, countBytes]),
  );

describe('transaction of bitmap actions', () => {
  it('changes nothing when it is aborted', async () => {
    const disk = await fixture();
    const actions = [disableBitmap(ref('B')), add('C'), clearBitmap(ref('A')), abortTransaction()];
    await expect(runTransaction(disk.graph, actions)).rejects.toThrow('aborted using Abort action');
    expect(counts(disk)).toEqual({ A: 262144, B: 262144 });
    expect(disk.graph.get('disk').bitmaps.get('B').recording).toBe(true);
  });

  it('lets later actions see what earlier ones staged, and unites windows of time exactly', async () => {
    const disk = await fixture();
    const { bitmaps } = disk.graph.get('disk');
    await runTransaction(disk.graph, [
      disableBitmap(ref('B')),
      add('C'),
      disableBitmap(ref('C')),
      enableBitmap(ref('C')),
    ]);
    expect(bitmaps.get('B').recording).toBe(false);
    expect(bitmaps.get('C').recording).toBe(true);
    await write(disk, W);
    expect(counts(disk)).toEqual({ A: 458752, B: 262144, C: 393216 });
    const merge = [add('D', false), mergeBitmaps(ref('D'), [ref('B'), ref('C')])];
    await expect(runTransaction(disk.graph, [...merge, abortTransaction()])).rejects.toThrow();
    expect(counts(disk)).toEqual({ A: 458752, B: 262144, C: 393216 });
    await runTransaction(disk.graph, merge);
    expect(bitmaps.get('D').bits.equals(bitmaps.get('A').bits)).toBe(true);
    await runTransaction(
      disk.graph,
      ['A', 'B', 'C', 'D'].map(name => removeBitmap(ref(name))),
    );
    expect(counts(disk)).toEqual({});
  });

  it('names the missing bitmap and never looks at later actions', async () => {
    const disk = await fixture();
    let looked = false;
    const probe = {
      kind: 'probe',
      nodes: () => [],
      prepare: () => {
        looked = true;
        return {};
      },
    };
    await expect(
      runTransaction(disk.graph, [clearBitmap(ref('A')), enableBitmap(ref('missing')), probe]),
    ).rejects.toThrow("Dirty bitmap 'missing' not found");
    expect(looked).toBe(false);
    expect(counts(disk)).toEqual({ A: 262144, B: 262144 });
  });

  it('leaves no job and no filter when an action after a backup fails', async () => {
    const disk = await fixture();
    const bad = backupOf(disk, { id: 'backup1', target: 'nowhere', filterNodeName: 'filter1' });
    await expect(runTransaction(disk.graph, [backupOf(disk), bad])).rejects.toThrow(
      "Cannot find device='nowhere' nor node-name='nowhere'",
    );
    expect(disk.jobs.all).toEqual([]);
    expect(disk.graph.has('filter')).toBe(false);
    await write(disk, W);
    const same = backupOf(disk, { target: 'disk' });
    await expect(runTransaction(disk.graph, [same])).rejects.toThrow('Source and target cannot be the same');
  });

  it('holds requests back for the length of the drain and loses none', async () => {
    const disk = await fixture();
    const during: (Promise<void> | undefined)[] = [];
    let countAtCommit = -1;
    const probe = {
      kind: 'probe',
      nodes: () => [disk.graph.get('disk')],
      prepare: () => {
        during.push(disk.guest.write(0, Buffer.alloc(512, 0x77)));
        return {
          commit: () => {
            countAtCommit = counts(disk).A!;
          },
        };
      },
    };
    await runTransaction(disk.graph, [clearBitmap(ref('A')), probe]);
    expect(countAtCommit).toBe(0);
    await Promise.all(during);
    expect(counts(disk).A).toBe(CLUSTER);
  });
});
