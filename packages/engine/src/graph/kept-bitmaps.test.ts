// Goal: the bitmaps of an image are the block node's while it is open, and the image's again afterwards, whatever
// happens in between. Method: a qcow2 image in memory under a graph.
import { expect, test } from 'vitest';
import { DirtyBitmap } from '../bitmap/dirty-bitmap.ts';
import { formatQcow2 } from '../image/qcow2/create.ts';
import { Qcow2Image } from '../image/qcow2/qcow2-image.ts';
import { FaultyNode } from '../testing/faulty-node.ts';
import { MemoryNode } from '../testing/memory-node.ts';
import { KiB, MiB } from '../units.ts';
import { BlockGraph } from './block-graph.ts';
import { PERMISSION, PERMISSIONS_ALL } from './permissions.ts';

const SIZE = 8 * MiB;

async function imageWithBitmap(): Promise<MemoryNode> {
  const file = new MemoryNode({ sizeBytes: 0 });
  await formatQcow2(file, { sizeBytes: SIZE });
  const image = await Qcow2Image.open(file, { keepChildren: true });
  const bitmap = new DirtyBitmap(SIZE, { name: 'b', granularityBytes: 64 * KiB, persistent: true });
  bitmap.bits.set(MiB, 1);
  await image.storeBitmaps([bitmap]);
  await image.close();
  return file;
}

async function stored(file: MemoryNode): Promise<readonly DirtyBitmap[]> {
  return (await Qcow2Image.open(file, { keepChildren: true, readOnly: true })).takeBitmaps();
}

test('are recorded by the node, and stored when it closes', async () => {
  const file = await imageWithBitmap();
  const graph = new BlockGraph();
  const node = await graph.open({ name: 'disk' }, () => Qcow2Image.open(file, { keepChildren: true }));
  expect(node.bitmaps.get('b').info()).toMatchObject({ countBytes: 64 * KiB, persistent: true });
  node.bitmaps.insert(node.bitmaps.create({ name: 'passing', granularityBytes: 64 * KiB, persistent: true }));
  await node.write(4 * MiB, Buffer.alloc(512));
  await graph.remove('disk');
  const [bitmap, ...others] = await stored(file);
  expect([...bitmap!.bits.dirtyAreas()].map(({ offset }) => offset)).toEqual([MiB, 4 * MiB]);
  expect(others).toEqual([]);
});

test('a node that cannot be opened after all leaves them as they were', async () => {
  const file = await imageWithBitmap();
  const graph = new BlockGraph();
  graph.add({ name: 'file' }, () => file);
  const shares = PERMISSIONS_ALL & ~PERMISSION.write;
  graph.attach('file', { user: 'somebody who excludes writers', uses: 0, shares });
  let opened = false;
  const opening = graph.open(
    {
      name: 'disk',
      children: { file: 'file' },
      permissions: () => ({ uses: opened ? PERMISSION.write : 0, shares: PERMISSIONS_ALL }),
    },
    async () => {
      const image = await Qcow2Image.open(file, { keepChildren: true });
      opened = true;
      return image;
    },
  );
  await expect(opening).rejects.toMatchObject({ kind: 'conflict' });
  expect(graph.has('disk')).toBe(false);
  expect((await stored(file))[0]).toMatchObject({ name: 'b', inconsistent: false });
});

test('where they cannot be stored the image closes, whole, and they are inconsistent', async () => {
  const memory = await imageWithBitmap();
  const file = new FaultyNode(memory);
  const graph = new BlockGraph();
  const node = await graph.open({ name: 'disk' }, () => Qcow2Image.open(file, { keepChildren: true }));
  await node.write(4 * MiB, Buffer.alloc(512, 1));
  await node.flush();
  file.addRule({ event: 'write', errno: 'ENOSPC' });
  await expect(graph.remove('disk')).rejects.toMatchObject({ kind: 'io' });
  expect(graph.has('disk')).toBe(false);
  expect((await stored(memory))[0]).toMatchObject({ name: 'b', inconsistent: true });
});
