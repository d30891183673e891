// Goal: qcow2 images mean the same to this engine and to QEMU's tools, in both directions. Method: images
// made here are checked, compared and converted by qemu-img; images made by qemu-img and qemu-io are read here.
import fs from 'node:fs';
import { afterAll, describe, expect } from 'vitest';
import { openImage } from '../../src/image/open-image.ts';
import { createQcow2 } from '../../src/image/qcow2/create.ts';
import type { BlockNode } from '../../src/node/block-node.ts';
import { ModelDisk } from '../../src/testing/model-disk.ts';
import { SeededRandom } from '../../src/testing/seeded-random.ts';
import { makeTemporaryFolder } from '../../src/testing/temporary-folder.ts';
import { KiB, MiB, TiB } from '../../src/units.ts';
import { countFindings, run, testWithTools } from './tools.ts';

const testWithImg = testWithTools(['qemu-img']);
const testWithIo = testWithTools(['qemu-img', 'qemu-io']);
const folder = makeTemporaryFolder();
afterAll(() => folder.remove());

/** Requests in parallel that do not overlap, all of them mirrored in the model. */
async function scribble(image: BlockNode, model: ModelDisk, random: SeededRandom): Promise<void> {
  for (let round = 0; round < 6; round++) {
    const pending: Promise<unknown>[] = [];
    for (let position = random.int(0, 512) * 512; position < image.sizeBytes; ) {
      const length = Math.min(random.int(1, 600) * 512, image.sizeBytes - position);
      if (random.chance(0.5)) {
        const data = random.bytes(length);
        model.write(position, data);
        pending.push(Promise.resolve(image.write(position, data)));
      } else if (random.chance(0.6)) {
        model.writeZeroes(position, length);
        pending.push(Promise.resolve(image.writeZeroes(position, length, { mayUnmap: random.chance(0.5) })));
      }
      position += length + random.int(0, 3000) * 512;
    }
    await Promise.all(pending);
    if (round % 2 === 0) await image.flush();
  }
}

async function readAll(path: string): Promise<Buffer> {
  const image = await openImage(path, { format: 'qcow2', readOnly: true });
  const all = Buffer.alloc(image.sizeBytes, 0xee);
  await image.read(0, all);
  await image.close();
  return all;
}

describe('images made here', () => {
  for (const [clusterBytes, seed] of [
    [512, 1],
    [4 * KiB, 2],
    [64 * KiB, 3],
    [2 * MiB, 4],
  ] as const) {
    testWithImg(`clusters of ${clusterBytes} bytes: check, compare and convert agree`, async () => {
      const path = folder.file(`single-${clusterBytes}.qcow2`);
      const size = 24 * MiB + 512;
      await createQcow2(path, { sizeBytes: size, clusterBytes });
      expect(countFindings(path)).toBe(0);
      const model = new ModelDisk(size);
      const image = await openImage(path, { format: 'qcow2' });
      await scribble(image, model, new SeededRandom(seed));
      await image.close();
      expect(countFindings(path)).toBe(0);
      const raw = folder.file('model.raw');
      fs.writeFileSync(raw, model.bytes);
      run('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', path, raw);
      const converted = folder.file('converted.raw');
      run('qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', path, converted);
      model.assertEqual(0, fs.readFileSync(converted), 'converted');
    });
  }

  testWithImg('a chain of three with different sizes reads the same to both', async () => {
    const random = new SeededRandom(21);
    const sizes = [12 * MiB, 8 * MiB + 512, 16 * MiB];
    let model = new ModelDisk(0);
    for (const [index, sizeBytes] of sizes.entries()) {
      const path = folder.file(`chain-${index}.qcow2`);
      const backing = { path: `chain-${index - 1}.qcow2`, format: 'qcow2' as const };
      await createQcow2(path, index === 0 ? { sizeBytes } : { sizeBytes, backing });
      const next = new ModelDisk(sizeBytes);
      model.bytes.copy(next.bytes);
      model = next;
      const image = await openImage(path, { format: 'qcow2' });
      await scribble(image, model, random);
      if (index === 2) await image.discard(MiB, 2 * MiB);
      if (index === 2) model.writeZeroes(MiB, 2 * MiB);
      await image.close();
      expect(countFindings(path)).toBe(0);
      const raw = folder.file(`chain-${index}.raw`);
      fs.writeFileSync(raw, model.bytes);
      run('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', path, raw);
      model.assertEqual(0, await readAll(path), `read of layer ${index}`);
    }
    const info = JSON.parse(run('qemu-img', 'info', '--output=json', folder.file('chain-2.qcow2')));
    expect(info).toMatchObject({ 'backing-filename': 'chain-1.qcow2', 'backing-filename-format': 'qcow2' });
  });

  testWithImg('extents say of a chain what qemu-img map says', async () => {
    const path = folder.file('chain-2.qcow2');
    interface MapEntry {
      start: number;
      length: number;
      depth: number;
      present: boolean;
      zero: boolean;
      data: boolean;
    }
    const map = JSON.parse(run('qemu-img', 'map', '-f', 'qcow2', '--output=json', path)) as MapEntry[];
    const image = await openImage(path, { format: 'qcow2', readOnly: true });
    for (const entry of map) {
      for (let at = entry.start; at < entry.start + entry.length; ) {
        const [extent] = await image.extents(at, entry.start + entry.length - at);
        expect(extent).toMatchObject({ offset: at, data: entry.data });
        // QEMU also asks the file under the image for holes inside data clusters; here those are data.
        if (!entry.data) expect(extent!.zero, `zero at ${at}`).toBe(entry.zero);
        // Past the end of a backing image map says "not present", allocation depth (as here) its layer.
        if (entry.present) expect(extent!.depth, `depth at ${at}`).toBe(entry.depth + 1);
        at += extent!.length;
      }
    }
    await image.close();
  });

  testWithIo('8 TiB with a few writes passes the check and stays small', async () => {
    const path = folder.file('huge.qcow2');
    await createQcow2(path, { sizeBytes: 8 * TiB });
    const image = await openImage(path, { format: 'qcow2' });
    const random = new SeededRandom(8);
    const places = Array.from({ length: 200 }, () => random.int(0, (8 * TiB) / 4096 - 1) * 4096);
    const before = process.memoryUsage().rss;
    for (const place of places) await image.write(place, Buffer.alloc(4096, 0x5a));
    await image.close();
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * MiB);
    expect(countFindings(path)).toBe(0);
    for (const place of places.slice(0, 10)) {
      run('qemu-io', '-r', '-f', 'qcow2', '-c', `read -P 0x5a ${place} 4096`, path);
    }
    expect(fs.statSync(path).blocks * 512).toBeLessThan(64 * MiB);
  });
});

describe('images made by QEMU', () => {
  for (const options of [
    'cluster_size=65536',
    'cluster_size=4096',
    'cluster_size=512',
    'cluster_size=2M',
    'compat=0.10',
    'compat=0.10,cluster_size=512',
    'lazy_refcounts=on',
    'preallocation=metadata',
    'preallocation=full',
    ...[1, 2, 4, 8, 32, 64].map(bits => `refcount_bits=${bits},cluster_size=${bits < 8 ? 512 : 4096}`),
  ]) {
    testWithIo(`qemu-img create -o ${options}: read and written here`, async () => {
      const path = folder.file(`qemu-${options.replace(/\W/g, '-')}.qcow2`);
      run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, path, '16M');
      run('qemu-io', '-f', 'qcow2', '-c', 'write -P 0x41 0 100k', '-c', 'write -P 0x42 5M 1M', path);
      run('qemu-io', '-f', 'qcow2', '-c', 'write -z 5M 256k', '-c', 'discard 20k 40k', path);
      const raw = folder.file('qemu.raw');
      run('qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', path, raw);
      const model = new ModelDisk(16 * MiB);
      fs.readFileSync(raw).copy(model.bytes);
      model.assertEqual(0, await readAll(path), options);
      const image = await openImage(path, { format: 'qcow2' });
      await scribble(image, model, new SeededRandom(31));
      await image.close();
      expect(countFindings(path)).toBe(0);
      fs.writeFileSync(raw, model.bytes);
      run('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', path, raw);
    });
  }

  for (const compression of ['zlib', 'zstd']) {
    testWithImg(`${compression} compressed clusters are read, and written over`, async () => {
      const raw = folder.file('plain.raw');
      const model = new ModelDisk(8 * MiB);
      const random = new SeededRandom(41);
      for (let at = 0; at < 6 * MiB; at += 16 * KiB)
        model.write(at, Buffer.alloc(12 * KiB, random.int(0, 255)));
      model.write(MiB, random.bytes(300 * KiB));
      fs.writeFileSync(raw, model.bytes);
      const path = folder.file(`${compression}.qcow2`);
      run(
        'qemu-img',
        'convert',
        '-c',
        '-f',
        'raw',
        '-O',
        'qcow2',
        '-o',
        `compression_type=${compression}`,
        raw,
        path,
      );
      model.assertEqual(0, await readAll(path), 'compressed');
      const image = await openImage(path, { format: 'qcow2' });
      await scribble(image, model, random);
      await image.close();
      expect(countFindings(path)).toBe(0);
      fs.writeFileSync(raw, model.bytes);
      run('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', path, raw);
    });
  }

  testWithImg('what is not done here is refused by its name', async () => {
    const cases: [options: string, word: RegExp][] = [
      ['extended_l2=on', /extended L2 entries/],
      [`data_file=${folder.file('external.raw')},data_file_raw=on`, /external data file/],
    ];
    for (const [options, word] of cases) {
      const path = folder.file(`refused-${cases.findIndex(entry => entry[0] === options)}.qcow2`);
      run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, path, '4M');
      const refusal = openImage(path, { format: 'qcow2', readOnly: true });
      await expect(refusal).rejects.toMatchObject({
        kind: 'unsupported',
        message: expect.stringMatching(word),
      });
      await expect(refusal).rejects.toThrow(path);
    }
  });
});
