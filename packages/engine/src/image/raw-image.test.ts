// Goal: the file and raw drivers, and the nodes made for tests, keep the block node's contract; raw
// windows stay inside their bounds. Method: the shared suite, then cases of raw's own.
import fs from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { FaultyNode } from '../testing/faulty-node.ts';
import { MemoryNode } from '../testing/memory-node.ts';
import { describeBlockNode } from '../testing/node-conformance.ts';
import { makeTemporaryFolder } from '../testing/temporary-folder.ts';
import { KiB, MiB, TiB } from '../units.ts';
import { FileNode } from './file-node.ts';
import { createRawFile, RawImage } from './raw-image.ts';

const folder = makeTemporaryFolder();
afterAll(() => folder.remove());

let count = 0;
let path = '';

describeBlockNode('file', {
  create: async sizeBytes => {
    path = folder.file(`file-${count++}`);
    return FileNode.open(path, { create: 'exclusive', sizeBytes });
  },
  reopen: async node => {
    await node.close();
    return FileNode.open(path);
  },
});

describeBlockNode('raw', {
  create: async sizeBytes => {
    path = folder.file(`raw-${count++}`);
    await createRawFile(path, sizeBytes);
    return RawImage.open(await FileNode.open(path));
  },
  reopen: async node => {
    await node.close();
    return RawImage.open(await FileNode.open(path));
  },
});

describeBlockNode('raw window', {
  create: async sizeBytes =>
    RawImage.open(new MemoryNode({ sizeBytes: sizeBytes + MiB }), { offsetBytes: 12 * KiB, sizeBytes }),
});

describeBlockNode('memory', { create: async sizeBytes => new MemoryNode({ sizeBytes }) });

describeBlockNode('memory, aligned', {
  create: async sizeBytes => new MemoryNode({ sizeBytes, requestAlignmentBytes: 512 }),
});

describeBlockNode('faulty without rules', {
  create: async sizeBytes => new FaultyNode(new MemoryNode({ sizeBytes })),
});

describe('raw', () => {
  test('a window touches nothing outside itself', async () => {
    const child = new MemoryNode({ sizeBytes: MiB });
    child.write(0, Buffer.alloc(MiB, 9));
    const window = RawImage.open(child, { offsetBytes: 256 * KiB, sizeBytes: 256 * KiB });
    await window.writeZeroes(0, window.sizeBytes, { mayUnmap: true });
    const all = Buffer.alloc(MiB);
    child.read(0, all);
    expect(all.subarray(0, 256 * KiB).every(byte => byte === 9)).toBe(true);
    expect(all.subarray(256 * KiB, 512 * KiB).every(byte => byte === 0)).toBe(true);
    expect(all.subarray(512 * KiB).every(byte => byte === 9)).toBe(true);
    expect((await window.extents(0, 4096))[0]).toMatchObject({ offset: 0, length: 4096, zero: true });
    await expect(window.resize(MiB)).rejects.toMatchObject({ kind: 'unsupported' });
  });

  test.each([
    { offsetBytes: MiB + 1 },
    { offsetBytes: 512 * KiB, sizeBytes: MiB },
    { offsetBytes: -1 },
    { sizeBytes: 1.5 },
  ])('refuses the window %o', options => {
    expect(() => RawImage.open(new MemoryNode({ sizeBytes: MiB }), options)).toThrow(
      expect.objectContaining({ kind: 'invalid-argument' }),
    );
  });

  test('grows and shrinks with its file', async () => {
    const target = folder.file('resize');
    await createRawFile(target, MiB);
    const image = RawImage.open(await FileNode.open(target));
    await image.write(0, Buffer.alloc(MiB, 1));
    await image.resize(2 * MiB);
    expect(image.sizeBytes).toBe(2 * MiB);
    const tail = Buffer.alloc(MiB, 0xee);
    await image.read(MiB, tail);
    expect(tail.every(byte => byte === 0)).toBe(true);
    await image.resize(4096);
    await image.close();
    expect(fs.statSync(target).size).toBe(4096);
  });

  test('creation refuses impossible sizes and leaves an existing file alone', async () => {
    const target = folder.file('create');
    await expect(createRawFile(target, -1)).rejects.toMatchObject({ kind: 'invalid-argument' });
    await expect(createRawFile(target, 2000 * TiB)).rejects.toMatchObject({ kind: 'invalid-argument' });
    expect(fs.existsSync(target)).toBe(false);
    fs.writeFileSync(target, 'kept');
    await expect(createRawFile(target, MiB)).rejects.toMatchObject({ kind: 'exists' });
    expect(fs.readFileSync(target, 'utf8')).toBe('kept');
  });
});

describe('faulty node', () => {
  test('fires by event, place, state and only once', async () => {
    const node = new FaultyNode(new MemoryNode({ sizeBytes: MiB }), {
      rules: [
        { event: 'flush', state: 1, newState: 2 },
        { event: 'write', offset: 4096, errno: 'EIO', once: true, state: 2 },
      ],
    });
    await node.write(4096, Buffer.alloc(512, 1));
    await node.flush();
    await node.write(0, Buffer.alloc(512, 1));
    await expect(node.write(4096, Buffer.alloc(512, 2))).rejects.toMatchObject({
      kind: 'io',
      context: { errno: 'EIO' },
    });
    await node.write(4096, Buffer.alloc(512, 3));
    expect(node.state).toBe(2);
  });

  test('holds requests until they are released', async () => {
    const child = new MemoryNode({ sizeBytes: MiB });
    const node = new FaultyNode(child);
    node.pause(event => event === 'write');
    const write = node.write(0, Buffer.alloc(512, 1));
    await node.untilHeld(1);
    await node.read(0, Buffer.alloc(512));
    expect(child.counts).toMatchObject({ read: 1, write: 0 });
    node.release();
    await write;
    expect(child.counts.write).toBe(1);
  });
});
