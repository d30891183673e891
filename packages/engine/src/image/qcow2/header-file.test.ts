// Goal: a header that is rewritten keeps what it does not know, and a power cut at any moment leaves the old or
// the new one. Method: every cut of a rewrite over a node that loses unflushed sectors at random.
import { describe, expect, test } from 'vitest';
import { CrashingNode } from '../../testing/crashing-node.ts';
import { FaultyNode } from '../../testing/faulty-node.ts';
import { MemoryNode } from '../../testing/memory-node.ts';
import { SeededRandom } from '../../testing/seeded-random.ts';
import { KiB, MiB } from '../../units.ts';
import { formatQcow2 } from './create.ts';
import { HEADER } from './format.ts';
import { readQcow2Header } from './header.ts';
import { encodeExtension } from './header-extensions.ts';
import { type HeaderChange, HeaderFile } from './header-file.ts';

const BITMAPS = { count: 1, directoryBytes: 32, directoryOffset: 4096 };
const UNKNOWN = 0x12345678;

async function image(file: MemoryNode | CrashingNode, clusterBytes: number, name: string): Promise<void> {
  const backing = name === '' ? {} : { backing: { path: name, format: 'raw' as const } };
  await formatQcow2(file, { sizeBytes: MiB, clusterBytes, ...backing });
  await file.flush();
}

test('fields and extensions that are not known stay, byte for byte', async () => {
  const file = new MemoryNode({ sizeBytes: 0 });
  await image(file, 64 * KiB, '');
  const head = Buffer.alloc(64 * KiB);
  file.read(0, head);
  // A longer header than ours, and two extensions of unknown types.
  head.writeUInt32BE(120, HEADER.headerLength);
  head.write('future', 112);
  const odd = encodeExtension({ type: UNKNOWN, data: Buffer.from('seven b') });
  const big = encodeExtension({ type: UNKNOWN + 1, data: Buffer.alloc(700, 0xab) });
  Buffer.concat([odd, big, Buffer.alloc(8)]).copy(head, 120);
  file.write(0, head);
  const headerFile = new HeaderFile(file, await readQcow2Header(file));
  await headerFile.rewrite({ bitmaps: BITMAPS, fields: { autoclearFeatures: 1n } });
  await headerFile.rewrite({ backing: { path: 'base', format: 'qcow2' } });
  const after = await readQcow2Header(file);
  expect(after).toMatchObject({
    bitmaps: BITMAPS,
    backingPath: 'base',
    backingFormat: 'qcow2',
    headerBytes: 120,
  });
  expect(after.extensions.filter(({ type }) => type === UNKNOWN || type === UNKNOWN + 1)).toEqual([
    { type: UNKNOWN, data: Buffer.from('seven b') },
    { type: UNKNOWN + 1, data: Buffer.alloc(700, 0xab) },
  ]);
  file.read(0, head);
  expect(head.toString('latin1', 112, 118)).toBe('future');
  expect(headerFile.header).toEqual(after);
  await headerFile.rewrite({ bitmaps: null, backing: null, fields: { autoclearFeatures: 0n } });
  expect(await readQcow2Header(file)).toMatchObject({ bitmaps: undefined, backingPath: undefined });
});

test('a backing name without room is refused, and nothing changes', async () => {
  const file = new MemoryNode({ sizeBytes: 0 });
  await image(file, 512, 'short');
  const headerFile = new HeaderFile(file, await readQcow2Header(file));
  const path = 'x'.repeat(450);
  await expect(headerFile.rewrite({ backing: { path, format: 'raw' } })).rejects.toMatchObject({
    kind: 'invalid-argument',
  });
  expect((await readQcow2Header(file)).backingPath).toBe('short');
});

describe('a power cut in a rewrite', () => {
  const names = ['', 'b', 'base.raw', 'n'.repeat(100), 'm'.repeat(700), 'l'.repeat(1023)];
  const changes = (name: string): HeaderChange[] => [
    { bitmaps: BITMAPS, fields: { autoclearFeatures: 1n } },
    { backing: { path: `${name}x`.slice(-1023), format: 'qcow2' } },
    { backing: null },
    { backing: { path: 'k'.repeat(1000), format: undefined } },
  ];
  test.each([4 * KiB, 64 * KiB])('leaves the old or the new header (clusters of %i)', async clusterBytes => {
    for (const [index, name] of names.entries()) {
      for (let kind = 0; kind < 4; kind++) {
        for (let cut = 0; cut < 24; cut++) {
          const seed = (index * 4 + kind) * 100 + cut;
          await cutOnce({ clusterBytes, name, change: changes(name)[kind]!, cut: cut % 12, seed });
        }
      }
    }
  });
});

interface Cut {
  clusterBytes: number;
  name: string;
  change: HeaderChange;
  /** Requests until the power goes. */
  cut: number;
  seed: number;
}

async function cutOnce({ clusterBytes, name, change, cut, seed }: Cut): Promise<void> {
  const disk = new CrashingNode(0);
  await image(disk, clusterBytes, name);
  const old = await readQcow2Header(disk);
  const file = new FaultyNode(disk);
  for (const event of ['write', 'flush'] as const) file.addRule({ event, errno: 'EIO', state: 2 });
  let requests = 0;
  file.pause(event => {
    if (event !== 'read' && requests++ === cut) file.setState(2);
    return false;
  });
  // A cut in two: first bitmaps, so that the second rewrite finds a header of ours.
  const headerFile = new HeaderFile(file, old);
  let expected = [old];
  try {
    await headerFile.rewrite({ bitmaps: { ...BITMAPS, count: 2 }, fields: { autoclearFeatures: 1n } });
    expected = [headerFile.header];
    await headerFile.rewrite(change);
    expected = [headerFile.header];
  } catch {
    expected = [old, headerFile.header];
  }
  const left = await readQcow2Header(disk.crash(new SeededRandom(seed)));
  const wanted = change.backing === undefined ? undefined : change.backing?.path;
  const paths = [...expected.map(({ backingPath }) => backingPath), wanted];
  expect(paths, `seed ${seed}`).toContain(left.backingPath);
  if (expected.length === 1) expect(left.backingPath).toBe(expected[0]!.backingPath);
  expect([undefined, 1, 2]).toContain(left.bitmaps?.count);
  // Never the promise without what it promises.
  if ((left.autoclearFeatures & 1n) !== 0n) expect(left.bitmaps, `seed ${seed}`).toBeDefined();
}
