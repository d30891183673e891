// Goal: the adapter adds nothing and loses nothing between block node and NBD. Method: a node in memory
// that counts its requests, extents of every kind.
import { EngineError, type Extent, KiB, MiB } from '@tidemark/engine';
import { FaultyNode, MemoryNode } from '@tidemark/engine/testing';
import { CONTEXT_ALLOCATION, CONTEXT_ALLOCATION_DEPTH } from '@tidemark/nbd';
import { expect, test } from 'vitest';
import { BlockExport, type BlockExportOptions, type ExtraContext } from './block-export.ts';

function build(options: Partial<BlockExportOptions> = {}) {
  const node = new MemoryNode({ sizeBytes: 4 * MiB, clusterSizeBytes: 64 * KiB, requestAlignmentBytes: 512 });
  return { node, exported: new BlockExport({ name: 'disk', listed: true, node, ...options }) };
}

test('size, block sizes and read-only follow the node', async () => {
  const { node, exported } = build();
  expect(exported).toMatchObject({
    sizeBytes: 4 * MiB,
    readOnly: false,
    minBlockBytes: 512,
    preferredBlockBytes: 4 * KiB,
  });
  await node.resize(8 * MiB);
  expect(exported.sizeBytes).toBe(8 * MiB);
  expect(build({ readOnly: true }).exported.readOnly).toBe(true);
  expect(build({ node: new MemoryNode({ sizeBytes: MiB, readOnly: true }) }).exported.readOnly).toBe(true);
});

test('only with FUA every kind of write is followed by a flush', async () => {
  const { node, exported } = build();
  const buffer = Buffer.alloc(512, 7);
  await exported.write(0, buffer, false);
  await exported.writeZeroes(0, 512, { mayUnmap: true, fua: false });
  await exported.trim(0, 512, false);
  expect(node.counts.flush).toBe(0);
  await exported.write(0, buffer, true);
  await exported.writeZeroes(0, 512, { mayUnmap: true, fua: true });
  await exported.trim(0, 512, true);
  expect(node.counts).toMatchObject({ write: 2, writeZeroes: 2, discard: 2, flush: 3 });
});

test('an export that writes through makes every kind of write durable', async () => {
  const { node, exported } = build({ writeThrough: true });
  await exported.write(0, Buffer.alloc(512, 7), false);
  await exported.writeZeroes(0, 512, { mayUnmap: true, fua: false });
  await exported.trim(0, 512, false);
  expect(node.counts.flush).toBe(3);
});

test('a write with FUA that fails is not called durable', async () => {
  const below = new MemoryNode({ sizeBytes: MiB });
  const node = new FaultyNode(below, { rules: [{ event: 'write', errno: 'EIO' }] });
  const { exported } = build({ node });
  await expect(async () => exported.write(0, Buffer.alloc(512), true)).rejects.toBeInstanceOf(EngineError);
  expect(below.counts.flush).toBe(0);
});

test('extents become the flags of each context, joined where it tells no difference', async () => {
  const extents: Extent[] = [
    { offset: 0, length: 10, data: true, zero: false, depth: 1 },
    { offset: 10, length: 20, data: true, zero: false, depth: 2 },
    { offset: 30, length: 30, data: false, zero: true, depth: 0 },
    { offset: 60, length: 40, data: true, zero: true, depth: 1 },
    { offset: 100, length: 50, data: false, zero: false, depth: 0 },
  ];
  for (const answer of [extents, Promise.resolve(extents)]) {
    const node = Object.assign(new MemoryNode({ sizeBytes: MiB }), { extents: () => answer });
    const { exported } = build({ node });
    expect(await exported.blockStatus(CONTEXT_ALLOCATION, 0, 150)).toEqual([
      { length: 30, flags: 0 },
      { length: 30, flags: 3 },
      { length: 40, flags: 2 },
      { length: 50, flags: 1 },
    ]);
    expect(await exported.blockStatus(CONTEXT_ALLOCATION_DEPTH, 0, 150)).toEqual([
      { length: 10, flags: 1 },
      { length: 20, flags: 2 },
      { length: 30, flags: 0 },
      { length: 40, flags: 1 },
      { length: 50, flags: 0 },
    ]);
  }
});

test('extra contexts come and go while the export stays', () => {
  const extras: ExtraContext[] = [];
  const { exported } = build({ extraContexts: () => extras });
  const name = 'qemu:dirty-bitmap:monday';
  expect(exported.contexts).toEqual([CONTEXT_ALLOCATION, CONTEXT_ALLOCATION_DEPTH]);
  extras.push({ name, status: (offset, length) => [{ length, flags: offset === 0 ? 1 : 0 }] });
  expect(exported.contexts).toContain(name);
  expect(exported.blockStatus(name, 0, 512)).toEqual([{ length: 512, flags: 1 }]);
  extras.pop();
  expect(() => exported.blockStatus(name, 0, 512)).toThrow(/no longer has/);
});
