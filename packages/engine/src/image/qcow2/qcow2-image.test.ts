// Goal: a qcow2 image is a block node like any other, alone and over a backing image, whatever its cluster
// size, and keeps every write under concurrency and faults. Method: the shared suite, seeded histories with
// reopening against a model, and a file child that fails or holds requests.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, describe, expect, test } from 'vitest';
import type { BlockNode } from '../../node/block-node.ts';
import { FaultyNode } from '../../testing/faulty-node.ts';
import { MemoryNode } from '../../testing/memory-node.ts';
import { ModelDisk } from '../../testing/model-disk.ts';
import { describeBlockNode } from '../../testing/node-conformance.ts';
import { checkImage } from '../../testing/qcow2-check.ts';
import { SeededRandom } from '../../testing/seeded-random.ts';
import { makeTemporaryFolder } from '../../testing/temporary-folder.ts';
import { KiB, MiB, TiB } from '../../units.ts';
import { FileNode } from '../file-node.ts';
import { openImage } from '../open-image.ts';
import { RawImage } from '../raw-image.ts';
import { createQcow2, formatQcow2 } from './create.ts';
import { Qcow2Image } from './qcow2-image.ts';

const folder = makeTemporaryFolder();
afterAll(() => folder.remove());

let count = 0;
let path = '';

describeBlockNode('qcow2', {
  create: async sizeBytes => {
    path = folder.file(`plain-${count++}.qcow2`);
    await createQcow2(path, { sizeBytes });
    return openImage(path, { format: 'qcow2' });
  },
  reopen: async node => {
    await node.close();
    return openImage(path, { format: 'qcow2' });
  },
});

for (const clusterBytes of [512, 4 * KiB, 2 * MiB]) {
  describeBlockNode(`qcow2 with clusters of ${clusterBytes} bytes`, {
    create: async sizeBytes => {
      path = folder.file(`cluster-${count++}.qcow2`);
      await createQcow2(path, { sizeBytes, clusterBytes });
      return openImage(path, { format: 'qcow2' });
    },
    reopen: async node => {
      await node.close();
      return openImage(path, { format: 'qcow2' });
    },
  });
}

describeBlockNode('qcow2 over a shorter raw backing image', {
  create: async sizeBytes => {
    const base = folder.file(`base-${count++}.raw`);
    const raw = RawImage.open(await FileNode.open(base, { create: 'exclusive', sizeBytes: 3 * MiB + 512 }));
    await raw.write(0, new SeededRandom(7).bytes(2 * MiB + 512));
    await raw.write(3 * MiB - 512, new SeededRandom(8).bytes(1024));
    await raw.close();
    path = folder.file(`overlay-${count++}.qcow2`);
    await createQcow2(path, { sizeBytes, backing: { path: base, format: 'raw' } });
    return openImage(path, { format: 'qcow2' });
  },
  reopen: async node => {
    await node.close();
    return openImage(path, { format: 'qcow2' });
  },
});

/** Bytes of buffers that somebody still holds: garbage is collected first. */
function heldBytes(): number {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
  return process.memoryUsage().arrayBuffers;
}

async function formatted(sizeBytes: number, clusterBytes = 64 * KiB): Promise<MemoryNode> {
  const file = new MemoryNode({ sizeBytes: 0 });
  await formatQcow2(file, { sizeBytes, clusterBytes });
  return file;
}

describe('random history', () => {
  test.each([
    { seed: 11, clusterBytes: 512, l2CacheBytes: 0 },
    { seed: 12, clusterBytes: 4 * KiB, l2CacheBytes: 0 },
    { seed: 13, clusterBytes: 64 * KiB, l2CacheBytes: 0 },
  ])('survives reopening and has no leak or error: %o', async ({ seed, clusterBytes, l2CacheBytes }) => {
    const random = new SeededRandom(seed);
    const size = 6 * MiB + 512;
    const file = await formatted(size, clusterBytes);
    const backing = new MemoryNode({ sizeBytes: 4 * MiB });
    backing.write(MiB, random.bytes(2 * MiB));
    const model = new ModelDisk(size);
    backing.read(0, model.bytes.subarray(0, 4 * MiB));
    for (let life = 0; life < 4; life++) {
      const image = await Qcow2Image.open(file, { backing, l2CacheBytes, keepChildren: true });
      for (let step = 0; step < 25; step++) await runConcurrent(image, model, random);
      await image.close();
      expect(await checkImage(file)).toEqual({ errors: [], leaks: 0 });
      const again = await Qcow2Image.open(file, { backing, readOnly: true, keepChildren: true });
      const all = Buffer.alloc(size, 0xee);
      await again.read(0, all);
      model.assertEqual(0, all, `seed ${seed}, life ${life}`);
    }
  });
});

test('tables that push each other out of a cache of two lose no change', async () => {
  for (let seed = 1; seed <= 12; seed++) {
    const random = new SeededRandom(seed);
    const model = new ModelDisk(6 * MiB + 512);
    const file = await formatted(model.sizeBytes, 4 * KiB);
    const image = await Qcow2Image.open(file, { l2CacheBytes: 0, keepChildren: true });
    for (let step = 0; step < 12; step++) await runConcurrent(image, model, random);
    await image.close();
    expect(await checkImage(file), `seed ${seed}`).toEqual({ errors: [], leaks: 0 });
  }
});

/** Requests at sector granularity that do not overlap, but share clusters, all at once. */
async function runConcurrent(image: BlockNode, model: ModelDisk, random: SeededRandom): Promise<void> {
  const pending: Promise<unknown>[] = [];
  for (let position = random.int(0, 2000) * 512; position < model.sizeBytes; ) {
    const length = Math.min(random.int(1, random.chance(0.2) ? 1500 : 40) * 512, model.sizeBytes - position);
    const dice = random.int(0, 9);
    if (dice < 5) {
      const data = random.bytes(length);
      model.write(position, data);
      pending.push(Promise.resolve(image.write(position, data)));
    } else if (dice < 8) {
      model.writeZeroes(position, length);
      const options = { mayUnmap: random.chance(0.6) };
      pending.push(Promise.resolve(image.writeZeroes(position, length, options)));
    } else if (dice === 8) pending.push(Promise.resolve(image.flush()));
    position += length + random.int(0, 400) * 512;
  }
  await Promise.all(pending);
}

describe('allocation', () => {
  test('a large write into fresh clusters is one write of the file', async () => {
    const file = await formatted(64 * MiB);
    const image = await Qcow2Image.open(file);
    await image.write(0, Buffer.alloc(64 * KiB, 1));
    const before = file.counts.write;
    await image.write(MiB, Buffer.alloc(MiB, 2));
    expect(file.counts.write - before).toBe(1);
    await image.close();
  });

  test('two partial writes to one fresh cluster both arrive, with what the backing image had between', async () => {
    const file = new FaultyNode(await formatted(MiB));
    const backing = new MemoryNode({ sizeBytes: MiB });
    backing.write(0, Buffer.alloc(MiB, 9));
    const image = await Qcow2Image.open(file, { backing });
    file.pause(event => event === 'write');
    const first = image.write(0, Buffer.alloc(512, 1));
    const second = image.write(1024, Buffer.alloc(512, 2));
    await file.untilHeld(1);
    file.release();
    await Promise.all([first, second]);
    const data = Buffer.alloc(2048);
    await image.read(0, data);
    expect([...new Set(data.subarray(0, 512))]).toEqual([1]);
    expect([...new Set(data.subarray(512, 1024))]).toEqual([9]);
    expect([...new Set(data.subarray(1024, 1536))]).toEqual([2]);
    expect([...new Set(data.subarray(1536))]).toEqual([9]);
    await image.close();
  });

  test('a disk of 8 TiB with a few writes stays small in file and memory', async () => {
    const file = await formatted(8 * TiB);
    const image = await Qcow2Image.open(file);
    const random = new SeededRandom(5);
    const places = Array.from({ length: 300 }, () => random.int(0, (8 * TiB) / 4096 - 1) * 4096);
    const before = heldBytes();
    for (const place of places) await image.write(place, Buffer.alloc(4096, (place / 4096) % 251));
    const data = Buffer.alloc(4096);
    for (const place of places) {
      await image.read(place, data);
      expect(data.every(byte => byte === (place / 4096) % 251)).toBe(true);
    }
    // The memory node's own pages: 300 tables and as many clusters, of which it keeps what was written.
    const stored = await file.allocatedBytes();
    // The space of what was collected is given back in the background.
    await expect.poll(() => heldBytes() - before).toBeLessThan(stored + 24 * MiB);
    const extents = await image.extents(0, 8 * TiB);
    expect(extents.length).toBeGreaterThan(100);
    await image.close();
    expect(await checkImage(file)).toEqual({ errors: [], leaks: 0 });
  });

  test('clusters given back are used again and their space is punched', async () => {
    const file = await formatted(8 * MiB);
    const image = await Qcow2Image.open(file, { keepChildren: true });
    await image.write(0, Buffer.alloc(8 * MiB, 1));
    await image.flush();
    const full = await file.allocatedBytes();
    await image.discard(0, 8 * MiB);
    await image.close();
    expect(full - (await file.allocatedBytes())).toBeGreaterThanOrEqual(8 * MiB);
    const again = await Qcow2Image.open(file, { keepChildren: true });
    await again.write(0, Buffer.alloc(8 * MiB, 2));
    await again.close();
    expect(file.sizeBytes).toBeLessThan(9 * MiB);
    expect(await checkImage(file)).toEqual({ errors: [], leaks: 0 });
  });

  test('clusters let go of are not given away while a request still uses them', async () => {
    const memory = await formatted(MiB);
    const file = new FaultyNode(memory);
    const image = await Qcow2Image.open(file);
    await image.write(0, Buffer.alloc(64 * KiB, 1));
    await image.flush();
    file.pause((event, _offset, length) => event === 'write' && length === 4096);
    const late = image.write(0, Buffer.alloc(4096, 7));
    await file.untilHeld(1);
    await image.discard(0, 64 * KiB);
    await image.flush();
    await image.write(512 * KiB, Buffer.alloc(64 * KiB, 3));
    file.release();
    await late;
    const data = Buffer.alloc(64 * KiB);
    await image.read(512 * KiB, data);
    expect(data.every(byte => byte === 3)).toBe(true);
    await image.close();
    expect(await checkImage(memory)).toEqual({ errors: [], leaks: 0 });
  });
});

describe('faults', () => {
  test('a full file fails the write with ENOSPC, harms nothing and can go on', async () => {
    const memory = await formatted(4 * MiB);
    const file = new FaultyNode(memory);
    const image = await Qcow2Image.open(file, { keepChildren: true });
    await image.write(0, Buffer.alloc(64 * KiB, 1));
    file.addRule({ event: 'write', errno: 'ENOSPC' });
    await expect(image.write(MiB, Buffer.alloc(256 * KiB, 2))).rejects.toMatchObject({
      kind: 'io',
      context: { errno: 'ENOSPC' },
    });
    await expect(image.flush()).rejects.toMatchObject({ context: { errno: 'ENOSPC' } });
    expect((await checkImage(memory)).errors).toEqual([]);
    file.clearRules();
    const data = Buffer.alloc(256 * KiB, 0xee);
    await image.read(MiB, data);
    expect(data.every(byte => byte === 0)).toBe(true);
    await image.write(MiB, Buffer.alloc(256 * KiB, 3));
    await image.close();
    expect(await checkImage(memory)).toEqual({ errors: [], leaks: 0 });
  });

  test.each([512, 64 * KiB])(
    'a power cut at any file request leaves leaks only (clusters of %i)',
    async clusterBytes => {
      for (let cut = 1; cut < 120; cut += 7) {
        const memory = await formatted(2 * MiB, clusterBytes);
        const file = new FaultyNode(memory);
        const image = await Qcow2Image.open(file, { keepChildren: true, l2CacheBytes: 0 });
        const random = new SeededRandom(cut);
        let requests = 0;
        // From the cut on nothing reaches the file any more.
        for (const event of ['write', 'discard', 'flush'] as const)
          file.addRule({ event, errno: 'EIO', state: 2 });
        file.pause(() => {
          if (++requests === cut) file.setState(2);
          return false;
        });
        const model = new ModelDisk(2 * MiB);
        for (let step = 0; step < 3; step++) {
          await runConcurrent(image, model, random).catch(() => undefined);
          await Promise.resolve(image.flush()).catch(() => undefined);
        }
        await image.close().catch(() => undefined);
        expect((await checkImage(memory)).errors, `cut at request ${cut}`).toEqual([]);
      }
    },
  );
});
