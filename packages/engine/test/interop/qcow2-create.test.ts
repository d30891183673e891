// Images made here with every option, looked at, checked and written to by the real qemu-img and qemu-io.
import fs from 'node:fs';
import { afterAll, describe, expect } from 'vitest';
import { openImage } from '../../src/image/open-image.ts';
import { type CreateQcow2Options, createQcow2 } from '../../src/image/qcow2/create.ts';
import { SeededRandom } from '../../src/testing/seeded-random.ts';
import { makeTemporaryFolder } from '../../src/testing/temporary-folder.ts';
import { KiB, MiB } from '../../src/units.ts';
import { countFindings, run, testWithTools } from './tools.ts';

const testWithIo = testWithTools(['qemu-img', 'qemu-io']);
const folder = makeTemporaryFolder();
afterAll(() => folder.remove());

interface Info {
  'cluster-size': number;
  'format-specific': { data: Record<string, unknown> };
}

const info = (path: string) => JSON.parse(run('qemu-img', 'info', '--output=json', path)) as Info;

const cases: [options: Omit<CreateQcow2Options, 'sizeBytes'>, shown: Record<string, unknown>][] = [
  [{}, { compat: '1.1', 'refcount-bits': 16, 'compression-type': 'zlib', 'lazy-refcounts': false }],
  [{ version: 2 }, { compat: '0.10', 'refcount-bits': 16 }],
  ...[1, 2, 4, 8, 32, 64].map((bits): [Omit<CreateQcow2Options, 'sizeBytes'>, Record<string, unknown>] => [
    { refcountBits: bits, clusterBytes: 512 },
    { 'refcount-bits': bits },
  ]),
  [{ compressionType: 'zstd' }, { 'compression-type': 'zstd' }],
  [{ lazyRefcounts: true }, { 'lazy-refcounts': true }],
];

describe('create options', () => {
  for (const [options, shown] of cases) {
    testWithIo(`${JSON.stringify(options)}`, async () => {
      const path = folder.file('image.qcow2');
      fs.rmSync(path, { force: true });
      await createQcow2(path, { sizeBytes: 8 * MiB, ...options });
      expect(countFindings(path)).toBe(0);
      expect(info(path)['format-specific'].data).toMatchObject(shown);
      run('qemu-io', '-f', 'qcow2', '-c', 'write -q -P 1 1M 300k', '-c', 'write -q -c -P 2 2M 64k', path);
      const image = await openImage(path, { format: 'qcow2' });
      const random = new SeededRandom(5);
      const data = random.bytes(600 * KiB);
      await image.write(3 * MiB, data);
      await image.writeCompressed?.(4 * MiB, Buffer.alloc(256 * KiB, 0x77));
      await image.writeZeroes(MiB, 128 * KiB, { mayUnmap: true });
      await image.discard(2 * MiB, 64 * KiB);
      await image.close();
      expect(countFindings(path)).toBe(0);
      run('qemu-io', '-r', '-f', 'qcow2', '-c', 'read -q -P 0 1M 128k', path);
      run('qemu-io', '-r', '-f', 'qcow2', '-c', 'read -q -P 1 1152k 172k', path);
      run('qemu-io', '-r', '-f', 'qcow2', '-c', 'read -q -P 0x77 4M 256k', path);
      run('qemu-io', '-r', '-f', 'qcow2', '-c', 'read -q -P 0 2M 64k', path);
    });
  }

  for (const preallocation of ['metadata', 'falloc', 'full'] as const) {
    for (const clusterBytes of [512, 64 * KiB]) {
      testWithIo(`preallocation ${preallocation} with clusters of ${clusterBytes}`, async () => {
        const path = folder.file(`${preallocation}-${clusterBytes}.qcow2`);
        await createQcow2(path, { sizeBytes: 4 * MiB + 512, clusterBytes, preallocation });
        expect(countFindings(path)).toBe(0);
        const map = JSON.parse(run('qemu-img', 'check', '--output=json', path)) as Record<string, number>;
        expect(map['allocated-clusters']).toBe(map['total-clusters']);
        const { size, blocks } = fs.statSync(path);
        expect(size).toBeGreaterThan(4 * MiB);
        if (preallocation === 'metadata') expect(blocks * 512).toBeLessThan(2 * MiB);
        else expect(blocks * 512).toBeGreaterThan(4 * MiB);
        run('qemu-io', '-r', '-f', 'qcow2', '-c', 'read -q -P 0 0 4M', path);
      });
    }
  }

  testWithIo('what cannot go together is refused as qemu-img refuses it', async () => {
    const path = folder.file('refused.qcow2');
    const refusals: [Omit<CreateQcow2Options, 'sizeBytes'>, string][] = [
      [{ version: 2, lazyRefcounts: true }, 'compat=0.10,lazy_refcounts=on'],
      [{ version: 2, refcountBits: 8 }, 'compat=0.10,refcount_bits=8'],
      [{ version: 2, compressionType: 'zstd' }, 'compat=0.10,compression_type=zstd'],
      [{ refcountBits: 3 }, 'refcount_bits=3'],
      [{ refcountBits: 128 }, 'refcount_bits=128'],
    ];
    for (const [options, words] of refusals) {
      let theirs = '';
      try {
        run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', words, path, '1M');
      } catch (error) {
        theirs = (error as Error).message.trim().split('qcow2: ').pop()!;
      }
      expect(theirs).not.toBe('');
      await expect(createQcow2(path, { sizeBytes: MiB, ...options })).rejects.toThrow(theirs);
    }
  });
});
