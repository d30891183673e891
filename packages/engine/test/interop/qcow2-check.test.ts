// What a check finds and repairs, beside what the real qemu-img does: clean, leaked and damaged images.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { afterAll, describe, expect } from 'vitest';
import { FileNode } from '../../src/image/file-node.ts';
import { checkQcow2, type Qcow2CheckResult } from '../../src/image/qcow2/check/check.ts';
import { RefcountWidth } from '../../src/image/qcow2/refcount-width.ts';
import { makeTemporaryFolder } from '../../src/testing/temporary-folder.ts';
import { run, testWithTools } from './tools.ts';

const testWithIo = testWithTools(['qemu-img', 'qemu-io']);
const folder = makeTemporaryFolder();
afterAll(() => folder.remove());

/** As qemu-img prints it, what it leaves out being 0. */
function theirCheck(path: string, repair?: 'leaks' | 'all'): Record<string, number> {
  const args = ['check', ...(repair ? ['-r', repair] : []), '-f', 'qcow2', '--output=json', path];
  const { stdout, stderr } = spawnSync('qemu-img', args, { encoding: 'utf8', maxBuffer: 1 << 26 });
  const from = stdout.indexOf('{');
  if (from < 0) throw new Error(`qemu-img check says nothing:\n${stdout}${stderr}`);
  return JSON.parse(stdout.slice(from)) as Record<string, number>;
}

const FIELDS: Record<string, keyof Qcow2CheckResult> = {
  'check-errors': 'checkErrors',
  leaks: 'leaks',
  corruptions: 'corruptions',
  'leaks-fixed': 'leaksFixed',
  'corruptions-fixed': 'corruptionsFixed',
  'image-end-offset': 'imageEndOffset',
  'allocated-clusters': 'allocatedClusters',
  'total-clusters': 'totalClusters',
  'compressed-clusters': 'compressedClusters',
  'fragmented-clusters': 'fragmentedClusters',
};

async function ourCheck(path: string, repair?: 'leaks' | 'all'): Promise<Record<string, number>> {
  const file = await FileNode.open(path, { readOnly: repair === undefined });
  try {
    const result = await checkQcow2(file, repair === undefined ? {} : { repair });
    return Object.fromEntries(
      Object.entries(FIELDS).map(([theirs, ours]) => [theirs, result[ours] as number]),
    );
  } finally {
    await file.close();
  }
}

function expectSame(theirs: Record<string, number>, ours: Record<string, number>, but: string[] = []): void {
  for (const name of Object.keys(FIELDS)) {
    if (!but.includes(name)) expect(`${name} ${ours[name] ?? 0}`).toBe(`${name} ${theirs[name] ?? 0}`);
  }
}

function makeImage(name: string, options: string, extras = true): string {
  const path = folder.file(`${name}.qcow2`);
  fs.rmSync(path, { force: true });
  run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, path, '6M');
  const io = (...commands: string[]) =>
    run('qemu-io', '-f', 'qcow2', ...commands.flatMap(command => ['-c', command]), path);
  io('write -q -P 1 0 700k', 'write -q -P 2 3M 300k', 'write -q -c -P 3 5M 128k', 'write -q -z 64k 128k');
  if (extras) run('qemu-img', 'snapshot', '-c', 'one', path);
  // Whoever opens the image for writing stores it anew, at another place.
  if (extras) run('qemu-img', 'bitmap', '--add', path, 'b');
  io('write -q -P 4 200k 300k', 'discard -q 3M 128k', 'write -q -z -u 3500k 64k');
  return path;
}

/** The places of an image's structures. */
class Layout {
  readonly path: string;
  readonly bytes: Buffer;
  readonly clusterBytes: number;
  readonly l1: number;
  readonly refcountTable: number;
  readonly width: RefcountWidth;

  constructor(path: string) {
    this.path = path;
    this.bytes = fs.readFileSync(path);
    this.clusterBytes = 2 ** this.bytes.readUInt32BE(20);
    this.l1 = Number(this.bytes.readBigUInt64BE(40));
    this.refcountTable = Number(this.bytes.readBigUInt64BE(48));
    this.width = new RefcountWidth(this.bytes.readUInt32BE(96));
  }

  /** Where the first entry of the active tables lies that says of its cluster that it is nobody else's. */
  get firstData(): number {
    const l1Bytes = this.bytes.readUInt32BE(36) * 8;
    for (let l1 = this.l1; l1 < this.l1 + l1Bytes; l1 += 8) {
      const l2 = this.bytes.readUIntBE(l1 + 2, 6);
      for (let at = l2; l2 > 0 && at < l2 + this.clusterBytes; at += 8) {
        if (this.bytes[at] === 0x80 && this.bytes.readUIntBE(at + 2, 6) !== 0) return at;
      }
    }
    throw new Error('no data cluster');
  }

  host(entry: number): number {
    return this.bytes.readUIntBE(entry + 2, 6) - (this.bytes.readUIntBE(entry + 2, 6) % 512);
  }

  setCount(offset: number, count: number): void {
    const index = offset / this.clusterBytes;
    const perBlock = this.width.perBlock(this.clusterBytes);
    const block = Number(this.bytes.readBigUInt64BE(this.refcountTable + Math.floor(index / perBlock) * 8));
    this.width.set(this.bytes.subarray(block, block + this.clusterBytes), index % perBlock, count);
  }

  save(): void {
    fs.writeFileSync(this.path, this.bytes);
  }
}

const damages: [name: string, damage: (layout: Layout) => void, but?: string[]][] = [
  ['a count too high', layout => layout.setCount(layout.host(layout.firstData), 2)],
  ['a cluster let go of', layout => void layout.bytes.fill(0, layout.firstData, layout.firstData + 8)],
  ['a flag missing', layout => void layout.bytes.writeUInt8(0, layout.firstData)],
  ['a flag missing in L1', layout => void layout.bytes.writeUInt8(0, layout.l1)],
  [
    'one cluster used twice',
    layout => {
      const at = layout.firstData;
      layout.bytes.copy(layout.bytes, at + 8, at, at + 8);
    },
  ],
  ['a cluster past the end', layout => void layout.bytes.writeUIntBE(0x70000000, layout.firstData + 2, 6)],
  // QEMU makes the refcounts anew for this, we raise the one that is too low: the file ends elsewhere.
  ['a count too low', layout => layout.setCount(layout.host(layout.firstData), 0), ['image-end-offset']],
];

describe.each(['cluster_size=64k', 'cluster_size=4k,refcount_bits=64', 'cluster_size=512,refcount_bits=32'])(
  '%s',
  options => {
    testWithIo('a clean image', async () => {
      const path = makeImage('clean', options);
      expectSame(theirCheck(path), await ourCheck(path));
    });

    for (const [name, damage, but] of damages) {
      testWithIo(name, async () => {
        const path = makeImage('damaged', options);
        const layout = new Layout(path);
        damage(layout);
        layout.save();
        expectSame(theirCheck(path), await ourCheck(path));
        // QEMU 7.2 forgets the snapshots of an image that it repairs: this is beside its own check alone.
        await ourCheck(path, 'all');
        expectSame(theirCheck(path), await ourCheck(path));
        expect(run('qemu-img', 'snapshot', '-l', path)).toContain('one');
      });

      for (const repair of ['leaks', 'all'] as const) {
        if (repair === 'leaks' && name === 'a count too low') continue;
        testWithIo(`${name}, repaired: ${repair}`, async () => {
          const path = makeImage('damaged', options, false);
          const layout = new Layout(path);
          damage(layout);
          layout.save();
          const theirs = folder.file('theirs.qcow2');
          fs.copyFileSync(path, theirs);
          expectSame(theirCheck(theirs, repair), await ourCheck(path, repair), but);
          expectSame(theirCheck(theirs), theirCheck(path), but);
          expectSame(await ourCheck(theirs), await ourCheck(path), but);
        });
      }
    }

    testWithIo('refcounts that point nowhere are made anew', async () => {
      const path = makeImage('broken', options);
      const layout = new Layout(path);
      layout.bytes.writeBigUInt64BE(0x7000200n, layout.refcountTable);
      layout.save();
      expect((await ourCheck(path)).corruptions).toBeGreaterThan(0);
      const repaired = await ourCheck(path, 'all');
      expect([repaired.corruptions, repaired.leaks]).toEqual([0, 0]);
      expectSame(theirCheck(path), await ourCheck(path));
      run('qemu-io', '-f', 'qcow2', '-c', 'read -q -P 1 0 64k', '-c', 'write -q 1M 1M', path);
      expectSame(theirCheck(path), await ourCheck(path));
    });
  },
);

testWithIo('an image that a killed writer with lazy refcounts left', async () => {
  const path = folder.file('lazy.qcow2');
  run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'lazy_refcounts=on', path, '6M');
  spawnSync('qemu-io', ['-f', 'qcow2', '-c', 'write -q -P 1 0 300k', '-c', 'abort', path]);
  expectSame(theirCheck(path), await ourCheck(path));
  const repaired = await ourCheck(path, 'all');
  expect([repaired.corruptions, repaired.leaks]).toEqual([0, 0]);
  expectSame(theirCheck(path), await ourCheck(path));
  run('qemu-io', '-f', 'qcow2', '-c', 'read -q -P 1 0 300k', path);
});
