// Dirty bitmaps by the commands that make, change and unite them: names, granularities, what is counted,
// and every refusal in QEMU's words.
import { expect } from 'vitest';
import { dirtySet } from '../bitmap-sets.ts';
import { different, qemuDies, scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

async function openDisk(s: Session, name = 'disk', options: { size?: string; clusters?: string } = {}) {
  const { size = '64M', clusters } = options;
  await s.image(name, {
    format: 'qcow2',
    size,
    ...(clusters ? { options: `cluster_size=${clusters}` } : {}),
  });
  await addDisk(s, name);
}

function addDisk(s: Session, name: string, more: object = {}): Promise<unknown> {
  const file = { driver: 'file', filename: s.path(name) };
  return s.add({ driver: 'qcow2', 'node-name': name, file, ...more });
}

const add = (s: Session, node: string, name: string, more: object = {}) =>
  s.ok('block-dirty-bitmap-add', { node, name, ...more });
const refuseToAdd = async (s: Session, args: object) =>
  (await s.refused('block-dirty-bitmap-add', args)).desc;
const hash = async (s: Session, node: string, name: string) =>
  (await s.ok<{ sha256: string }>('x-debug-block-dirty-bitmap-sha256', { node, name })).sha256;
const verb = (verbName: string) => `block-dirty-bitmap-${verbName}`;

scenario('BM-01', 'the default granularity is the cluster size, within 4 KiB and 64 KiB', async s => {
  await s.image('raw', { format: 'raw', size: '8M' });
  const file = { driver: 'file', 'node-name': 'file', filename: s.path('raw') };
  await s.add({ driver: 'raw', 'node-name': 'raw', file });
  for (const clusters of ['512', '4k', '16k', '64k', '2M']) await openDisk(s, `c${clusters}`, { clusters });
  await s.ok('object-add', { 'qom-type': 'throttle-group', id: 'tg' });
  const above = { raw: {}, throttle: { 'throttle-group': 'tg' }, blkdebug: {} };
  for (const [driver, more] of Object.entries(above)) {
    const node = `${driver}-over`;
    await openDisk(s, `under-${driver}`, { clusters: '8k' });
    const child = driver === 'blkdebug' ? 'image' : 'file';
    await s.add({ driver, 'node-name': node, [child]: `under-${driver}`, ...more });
    await add(s, node, 'b');
    await s.bitmap(node, 'b');
  }
  const expected = { raw: 64, file: 64, c512: 4, c4k: 4, c16k: 16, c64k: 64, c2M: 64 };
  for (const [node, kibibytes] of Object.entries(expected)) {
    await add(s, node, 'b');
    expect((await s.bitmap(node, 'b')).granularity).toBe(kibibytes * KiB);
  }
});

scenario('BM-02', 'a granularity is a power of two and at least 512', async s => {
  await openDisk(s);
  for (const granularity of [512, 1024, 32 * KiB, 128 * KiB, 1 * MiB, 2 ** 31]) {
    await add(s, 'disk', `g${granularity}`, { granularity });
    expect((await s.bitmap('disk', `g${granularity}`)).granularity).toBe(granularity);
  }
  for (const granularity of [0, 1, 256, 513, 64_000]) {
    const text = await refuseToAdd(s, { node: 'disk', name: 'x', granularity });
    expect(text).toBe('Granularity must be power of 2 and at least 512');
  }
  for (const granularity of [-1, 2 ** 32, '64k', 512.5]) {
    await refuseToAdd(s, { node: 'disk', name: 'x', granularity });
  }
  expect(await s.bitmaps('disk')).toHaveLength(6);
});

scenario('BM-03', 'a name has 1 to 1023 bytes', async s => {
  await openDisk(s);
  for (const name of ['x'.repeat(1023), `${'ä'.repeat(511)}x`, ' ', '/', '#']) await add(s, 'disk', name);
  for (const name of ['x'.repeat(1024), 'ä'.repeat(512)]) {
    expect(await refuseToAdd(s, { node: 'disk', name })).toBe(`Bitmap name too long: ${name}`);
  }
  expect(await refuseToAdd(s, { node: 'disk', name: '' })).toBe('Bitmap name cannot be empty');
  expect(await refuseToAdd(s, { node: 'nowhere', name: '' })).toBe('Bitmap name cannot be empty');
  expect(await s.bitmaps('disk')).toHaveLength(5);
});

scenario('BM-04', 'a name is free once on each block node', async s => {
  await openDisk(s);
  await openDisk(s, 'other');
  for (const node of ['disk', 'other']) await add(s, node, 'b');
  expect(await refuseToAdd(s, { node: 'disk', name: 'b' })).toBe('Bitmap already exists: b');
  await refuseToAdd(s, { node: 'disk', name: 'b', granularity: 1 });
  await refuseToAdd(s, { node: 'nowhere', name: 'b' });
  await refuseToAdd(s, { node: 'nowhere', name: 'b', granularity: 1 });
  await refuseToAdd(s, { node: 'disk' });
  await refuseToAdd(s, { name: 'b' });
  await refuseToAdd(s, { node: 'disk', name: 'c', colour: 'red' });
  await refuseToAdd(s, { node: 'disk', name: 'c', disabled: 1 });
  await s.bitmaps('disk');
});

scenario('BM-05', 'one that is added disabled counts nothing', async s => {
  await openDisk(s);
  await add(s, 'disk', 'off', { disabled: true });
  await s.io('disk', 'write -P 1 0 1M');
  expect(await s.bitmap('disk', 'off')).toMatchObject({ recording: false, count: 0 });
});

scenario('BM-06', 'one cannot be persistent where the format has no place for it', async s => {
  await s.image('raw', { format: 'raw', size: '8M' });
  await s.add({ driver: 'raw', 'node-name': 'raw', file: { driver: 'file', filename: s.path('raw') } });
  await s.image('old', { format: 'qcow2', size: '8M', options: 'compat=0.10' });
  await addDisk(s, 'old', { 'read-only': true });
  const onRaw = await refuseToAdd(s, { node: 'raw', name: 'p', persistent: true });
  expect(onRaw).toBe("Can't store persistent bitmaps to raw: Operation not supported");
  const onOld = await refuseToAdd(s, { node: 'old', name: 'p', persistent: true });
  expect(onOld).toMatch(/Cannot store dirty bitmaps in qcow2 v2 files$/);
  await add(s, 'old', 'p', { persistent: false });
});

scenario('BM-06p', 'one that a qcow2 image is to keep', async s => {
  await openDisk(s);
  await s.ok('block-dirty-bitmap-add', { node: 'disk', name: 'p', persistent: true });
  await s.bitmaps('disk');
});

different('BM-06r', 'one that a read-only image would be to keep', '0030-bitmaps-in-qcow2', async s => {
  await s.image('new', { format: 'qcow2', size: '8M' });
  await addDisk(s, 'new', { 'read-only': true });
  await s.qmp('block-dirty-bitmap-add', { node: 'new', name: 'p', persistent: true });
  await s.bitmaps('new');
});

scenario('BM-08', 'a removed bitmap is gone, an unknown one named', async s => {
  await openDisk(s);
  for (const name of ['a', 'b']) await add(s, 'disk', name);
  await s.ok(verb('remove'), { node: 'disk', name: 'a' });
  for (const one of ['remove', 'clear', 'enable', 'disable']) {
    const { desc } = await s.refused(verb(one), { node: 'disk', name: 'a' });
    expect(desc).toBe("Dirty bitmap 'a' not found");
    expect((await s.refused(verb(one), { node: 'zip', name: 'a' })).desc).toBe("Node 'zip' not found");
    await s.refused(verb(one), { node: 'disk' });
    await s.refused(verb(one), { node: 'disk', name: 'b', force: true });
  }
  await s.refused('x-debug-block-dirty-bitmap-sha256', { node: 'disk', name: 'a' });
  expect(await s.bitmaps('disk')).toHaveLength(1);
});

scenario('BM-09', 'clear takes every bit and leaves the flags', async s => {
  await openDisk(s);
  await add(s, 'disk', 'b');
  const clean = await hash(s, 'disk', 'b');
  await s.io('disk', 'write -P 1 0 1M');
  expect(await s.bitmap('disk', 'b')).toMatchObject({ count: 1 * MiB });
  await s.ok(verb('disable'), { node: 'disk', name: 'b' });
  await s.ok(verb('clear'), { node: 'disk', name: 'b' });
  expect(await s.bitmap('disk', 'b')).toMatchObject({ count: 0, recording: false });
  expect(await hash(s, 'disk', 'b')).toBe(clean);
});

scenario('BM-10', 'what a disabled bitmap missed never appears', async s => {
  await openDisk(s);
  await add(s, 'disk', 'b');
  await s.io('disk', 'write -P 1 0 64k');
  await s.ok(verb('disable'), { node: 'disk', name: 'b' });
  await s.io('disk', 'write -P 2 1M 64k');
  await s.ok(verb('enable'), { node: 'disk', name: 'b' });
  await s.io('disk', 'write -P 3 2M 64k');
  expect(await dirtySet(s, 'disk', 'b')).toBe('0 32');
  expect(await s.bitmap('disk', 'b')).not.toHaveProperty('inconsistent');
});

scenario('BM-12', 'a bitmap that a job holds is frozen and refuses every verb', async s => {
  for (const name of ['disk', 'target', 'other']) await openDisk(s, name);
  for (const name of ['a', 'b']) await add(s, 'disk', name);
  await s.io('disk', 'write -P 1 0 64k');
  const backup = { device: 'disk', sync: 'bitmap', bitmap: 'a', 'bitmap-mode': 'never' };
  await s.ok('blockdev-backup', { ...backup, 'job-id': 'j', target: 'target', 'auto-finalize': false });
  await s.event('BLOCK_JOB_PENDING', { id: 'j' });
  await s.io('disk', 'write -P 2 1M 128k');
  expect(await s.bitmap('disk', 'a')).toMatchObject({ busy: true, recording: true, count: 64 * KiB });
  const text = "Bitmap 'a' is currently in use by another operation and cannot be used";
  for (const one of ['remove', 'clear', 'enable', 'disable']) {
    expect((await s.refused(verb(one), { node: 'disk', name: 'a' })).desc).toBe(text);
  }
  for (const [target, source] of [
    ['a', 'b'],
    ['b', 'a'],
  ]) {
    expect((await s.refused(verb('merge'), { node: 'disk', target, bitmaps: [source] })).desc).toBe(text);
  }
  const again = await s.refused('blockdev-backup', { ...backup, 'job-id': 'k', target: 'other' });
  expect(again.desc).toBe(text);
  const clear = { type: verb('clear'), data: { node: 'disk', name: 'a' } };
  expect((await s.refused('transaction', { actions: [clear] })).desc).toBe(text);
  await hash(s, 'disk', 'a');
  await add(s, 'disk', 'c');
  await s.ok('job-finalize', { id: 'j' });
  await s.jobState('j', 'null');
  expect(await s.bitmap('disk', 'a')).toMatchObject({ busy: false, recording: true, count: 192 * KiB });
  await s.ok(verb('remove'), { node: 'disk', name: 'a' });
});

scenario('BM-12e', 'a bitmap that an export shows is held by it', async s => {
  await openDisk(s);
  for (const name of ['a', 'b']) await add(s, 'disk', name, { disabled: true });
  await s.nbdSocket();
  const data = { type: 'nbd', id: 'e', name: 'e', 'node-name': 'disk' };
  await s.ok('block-export-add', { ...data, bitmaps: ['a'] });
  expect(await s.bitmap('disk', 'a')).toMatchObject({ busy: true });
  for (const one of ['remove', 'clear', 'enable', 'disable']) {
    await s.refused(verb(one), { node: 'disk', name: 'a' });
  }
  await s.refused(verb('merge'), { node: 'disk', target: 'b', bitmaps: ['a'] });
  await s.ok('block-export-del', { id: 'e' });
  await s.event('BLOCK_EXPORT_DELETED', { id: 'e' });
  expect(await s.bitmap('disk', 'a')).toMatchObject({ busy: false });
  await s.ok(verb('clear'), { node: 'disk', name: 'a' });
});

scenario('BM-13', 'a merge adds several sources of several nodes and leaves them as they are', async s => {
  await openDisk(s);
  await openDisk(s, 'other');
  for (const name of ['a', 'b', 'c']) await add(s, 'disk', name, { disabled: name !== 'a' });
  await add(s, 'other', 'o');
  await s.io('disk', 'write -P 1 0 64k');
  await s.ok(verb('enable'), { node: 'disk', name: 'b' });
  await s.io('disk', 'write -P 1 8M 64k');
  await s.io('other', 'write -P 1 16M 100k');
  const bitmaps = ['a', { node: 'other', name: 'o' }];
  await s.ok(verb('merge'), { node: 'disk', target: 'b', bitmaps });
  expect(await dirtySet(s, 'disk', 'b')).toBe('0 128 256-257');
  expect(await dirtySet(s, 'disk', 'a')).toBe('0 128');
  expect(await dirtySet(s, 'other', 'o')).toBe('256-257');
  expect(await s.bitmap('disk', 'c')).toMatchObject({ count: 0 });
});

scenario('BM-14', 'a merge that fails leaves its target as it was', async s => {
  await openDisk(s);
  await openDisk(s, 'small', { size: '32M' });
  for (const name of ['t', 'a']) await add(s, 'disk', name);
  await add(s, 'small', 's');
  await s.io('disk', 'write -P 1 0 64k');
  await s.ok(verb('disable'), { node: 'disk', name: 't' });
  await s.io('disk', 'write -P 1 8M 64k');
  const before = await hash(s, 'disk', 't');
  const merge = async (target: string, ...bitmaps: unknown[]) =>
    (await s.refused(verb('merge'), { node: 'disk', target, bitmaps })).desc;
  expect(await merge('t', 'a', 'no')).toBe("Dirty bitmap 'no' not found");
  expect(await merge('t', 'a', { node: 'zip', name: 'a' })).toBe("Node 'zip' not found");
  const sizes = '(destination size is 67108864, source size is 33554432)';
  expect(await merge('t', 'a', { node: 'small', name: 's' })).toBe(
    `Bitmaps are of different sizes ${sizes} and can't be merged`,
  );
  await merge('t', { node: 'small', name: 's' }, 'no');
  await merge('no', 'nor this');
  await merge('t', 1);
  await merge('t', null);
  await merge('t', { node: 'small' });
  await merge('t', { node: 'small', name: 's', colour: 'red' });
  await s.refused(verb('merge'), { node: 'disk', target: 't' });
  await s.refused(verb('merge'), { node: 'disk', target: 't', bitmaps: 'a' });
  await s.refused(verb('merge'), { node: 'zip', target: 't', bitmaps: ['a'] });
  expect(await hash(s, 'disk', 't')).toBe(before);
});

scenario('BM-14b', 'a merge across granularities marks every granule that is touched', async s => {
  await openDisk(s, 'disk', { size: '8M' });
  await add(s, 'disk', 'fine', { granularity: 512 });
  await s.io('disk', 'write -P 1 0 512', 'write -P 1 65024 1k', 'write -P 1 4195328 512');
  await s.ok(verb('disable'), { node: 'disk', name: 'fine' });
  await add(s, 'disk', 'coarse', { granularity: 128 * KiB });
  await s.io('disk', 'write -P 1 7M 512');
  await s.ok(verb('merge'), { node: 'disk', target: 'coarse', bitmaps: ['fine'] });
  expect(await dirtySet(s, 'disk', 'coarse')).toBe('0 32 56');
  await s.ok(verb('merge'), { node: 'disk', target: 'fine', bitmaps: ['coarse'] });
  expect(await dirtySet(s, 'disk', 'fine')).toBe('0-255 8192-8447 14336-14591');
  for (const name of ['fine', 'coarse']) await hash(s, 'disk', name);
});

scenario('BM-15', 'a merge into itself, or of one source twice, is a union', async s => {
  await openDisk(s);
  await add(s, 'disk', 'a');
  await s.io('disk', 'write -P 1 1M 64k');
  await add(s, 'disk', 'b');
  await s.io('disk', 'write -P 1 3M 64k');
  await s.ok(verb('merge'), { node: 'disk', target: 'a', bitmaps: ['a'] });
  await s.ok(verb('merge'), { node: 'disk', target: 'b', bitmaps: ['a', 'a', 'b'] });
  expect(await dirtySet(s, 'disk', 'a')).toBe('16 48');
  expect(await dirtySet(s, 'disk', 'b')).toBe('16 48');
});

qemuDies('BM-15e', 'a merge of nothing', '0023-answer-where-qemu-dies', async s => {
  await openDisk(s);
  await add(s, 'disk', 'a');
  await s.ok(verb('merge'), { node: 'disk', target: 'a', bitmaps: [] });
  expect(await s.bitmap('disk', 'a')).toMatchObject({ count: 0 });
});

scenario('BM-16', 'a copy has the hash of its source, of odd sizes too', async s => {
  for (const [name, size] of [
    ['disk', '64M'],
    ['odd', '4259840'],
    ['tiny', '512'],
  ] as const) {
    await openDisk(s, name, { size });
    for (const granularity of [512, 64 * KiB]) {
      const [from, to] = [`from${granularity}`, `to${granularity}`];
      await add(s, name, from, { granularity });
      if (name !== 'tiny') await s.io(name, 'write -P 1 65536 512', 'write -P 1 2096640 64k');
      if (name !== 'tiny') await s.io(name, 'write -P 1 4194304 1k');
      await add(s, name, to, { granularity, disabled: true });
      await s.ok(verb('merge'), { node: name, target: to, bitmaps: [from] });
      expect(await hash(s, name, to)).toBe(await hash(s, name, from));
    }
    await s.bitmaps(name);
  }
});

scenario('BM-17', 'bitmaps of consecutive windows unite to the one over all of them', async s => {
  await openDisk(s);
  await add(s, 'disk', 'all');
  const windows: readonly (readonly string[])[] = [
    ['write -P 1 0 512', 'write -P 1 16M 256k', 'write -P 1 32736k 64k'],
    ['write -P 2 0 64k', 'write -z 8M 352k', 'write -P 2 15872k 1M'],
    [],
    ['discard 40M 1M', 'write -P 3 67043328 64k'],
  ];
  let previous: string | undefined;
  for (const [index, writes] of windows.entries()) {
    const next = { type: verb('add'), data: { node: 'disk', name: `w${index}` } };
    const close = previous && { type: verb('disable'), data: { node: 'disk', name: previous } };
    await s.ok('transaction', { actions: close ? [close, next] : [next] });
    if (writes.length > 0) await s.io('disk', ...writes);
    previous = `w${index}`;
  }
  await add(s, 'disk', 'union', { disabled: true });
  const bitmaps = windows.map((_, index) => `w${index}`);
  await s.ok(verb('merge'), { node: 'disk', target: 'union', bitmaps });
  expect(await hash(s, 'disk', 'union')).toBe(await hash(s, 'disk', 'all'));
  await dirtySet(s, 'disk', 'union');
  // A checkpoint in the middle is deleted by merging it into the one before: no union changes.
  await s.ok(verb('merge'), { node: 'disk', target: 'w0', bitmaps: ['w1'] });
  await s.ok(verb('remove'), { node: 'disk', name: 'w1' });
  await add(s, 'disk', 'union2', { disabled: true });
  await s.ok(verb('merge'), { node: 'disk', target: 'union2', bitmaps: ['w0', 'w2', 'w3'] });
  expect(await hash(s, 'disk', 'union2')).toBe(await hash(s, 'disk', 'all'));
});

scenario(
  'BM-19',
  'writes and zeroes are seen, discards where they go through, and writes of jobs',
  async s => {
    for (const name of ['disk', 'unmapping', 'source']) {
      await s.image(name, { format: 'qcow2', size: '8M' });
      await addDisk(s, name, name === 'unmapping' ? { discard: 'unmap' } : {});
    }
    await s.io('source', 'write -P 7 3M 64k');
    for (const [node, discarded] of [
      ['disk', ''],
      ['unmapping', ' 512-527'],
    ] as const) {
      await add(s, node, 'b', { granularity: 4 * KiB });
      await s.io(node, 'write -P 1 0 100', 'write -z 1M 8k', 'write -z -u 1280k 4k', 'discard 2M 64k');
      await s.io(node, 'read 5M 64k', 'flush');
      expect(await dirtySet(s, node, 'b')).toBe(`0 256-257 320${discarded}`);
      await s.ok(verb('clear'), { node, name: 'b' });
      await s.closeGuest(node);
    }
    await s.ok('blockdev-backup', { device: 'source', target: 'disk', sync: 'top', 'job-id': 'j' });
    await s.jobState('j', 'null');
    expect(await dirtySet(s, 'disk', 'b')).toBe('768-783');
  },
);

scenario('BM-25', 'a query lists every bitmap, the successor of a held one too', async s => {
  for (const name of ['disk', 'target']) await openDisk(s, name);
  for (const name of ['a', 'b', 'c']) await add(s, 'disk', name);
  await s.guest('disk');
  const backup = { device: 'disk', target: 'target', sync: 'incremental', bitmap: 'b' };
  await s.ok('blockdev-backup', { ...backup, 'job-id': 'j', 'auto-finalize': false });
  await s.event('BLOCK_JOB_PENDING', { id: 'j' });
  await s.io('disk', 'write -P 1 1M 64k');
  const recording = (await s.bitmaps('disk')).filter(bitmap => bitmap.recording);
  expect(recording.map(bitmap => bitmap.name)).toEqual([undefined, 'a', 'b', 'c']);
  await s.ok('job-cancel', { id: 'j' });
  await s.jobState('j', 'null');
  expect(await dirtySet(s, 'disk', 'b')).toBe('16');
});
