// Disks that grow and shrink: who is asked, which bitmaps follow, and what is refused.
import { expect } from 'vitest';
import { scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

const resize = (s: Session, node: string, size: number) => s.ok('block_resize', { 'node-name': node, size });
const refuse = async (s: Session, args: object) => (await s.refused('block_resize', args)).desc;
const query = (s: Session) => s.ok('query-named-block-nodes', { flat: true });
const file = (s: Session, name: string, more: object = {}) => ({
  driver: 'file',
  filename: s.path(name),
  ...more,
});

scenario('RS-01', 'whose size it is, and which sizes there are', async s => {
  await s.image('disk', { format: 'raw', size: '1M' });
  await s.image('image', { format: 'qcow2', size: '1M' });
  await s.add({ ...file(s, 'disk'), 'node-name': 'f' });
  await s.add({ driver: 'qcow2', 'node-name': 'q', file: file(s, 'image') });
  expect(await refuse(s, { size: MiB })).toBe("Cannot find device='' nor node-name=''");
  expect(await refuse(s, { 'node-name': 'x', size: MiB })).toBe("Cannot find device='' nor node-name='x'");
  expect(await refuse(s, { device: 'f', size: MiB })).toBe("Cannot find device='f' nor node-name=''");
  expect(await refuse(s, { 'node-name': 'f', size: -1 })).toBe("Parameter 'size' expects a >0 size");
  expect(await refuse(s, { 'node-name': 'f' })).toBe("Parameter 'size' is missing");
  expect(await refuse(s, { 'node-name': 'q', size: 1000 })).toBe('The new size must be a multiple of 512');
  await s.ok('block_resize', { device: '', 'node-name': 'f', size: 2 * MiB });
  for (const size of [1000, MiB + 1, 0, MiB]) {
    await resize(s, 'f', size);
    await query(s);
  }
});

scenario('RS-02', 'who cannot be resized says why', async s => {
  await s.image('disk', { format: 'raw', size: '1M' });
  await s.add({ ...file(s, 'disk'), 'node-name': 'f' });
  await s.add({ driver: 'raw', 'node-name': 'window', file: 'f', offset: 512, size: 64 * KiB });
  await s.image('other', { format: 'raw', size: '1M' });
  await s.add({ ...file(s, 'other', { 'read-only': true }), 'node-name': 'ro' });
  await s.add({ driver: 'null-co', 'node-name': 'null', size: 64 * KiB });
  expect(await refuse(s, { 'node-name': 'window', size: MiB })).toBe('Cannot resize fixed-size raw disks');
  expect(await refuse(s, { 'node-name': 'ro', size: MiB })).toBe('Image is read-only');
  expect(await refuse(s, { 'node-name': 'null', size: MiB })).toBe(
    'Image format driver does not support resize',
  );
  expect(await refuse(s, { 'node-name': 'f', size: MiB })).toMatch(/unshared by node 'window'/);
});

scenario('RS-03', 'nobody resizes a disk that a guest sees', async s => {
  await s.image('disk', { format: 'raw', size: '1M' });
  await s.add({ ...file(s, 'disk'), 'node-name': 'f' });
  await s.add({ driver: 'raw', 'node-name': 'r', file: 'f' });
  await s.io('r', 'write -P 1 0 64k');
  const text = "permissions 'resize' are both required by an unnamed block device";
  for (const node of ['r', 'f'])
    expect(await refuse(s, { 'node-name': node, size: 2 * MiB })).toContain(text);
  await s.closeGuest('r');
  await resize(s, 'r', 2 * MiB);
  await s.io('r', 'read -P 1 0 64k', 'read -P 0 1M 1M');
});

scenario('BR-03', 'shrinking drops the bits past the end, growing shows them clean', async s => {
  await s.image('disk', { format: 'raw', size: '4M' });
  await s.image('image', { format: 'qcow2', size: '4M' });
  await s.add({ driver: 'raw', 'node-name': 'raw', file: file(s, 'disk') });
  await s.add({ driver: 'qcow2', 'node-name': 'qcow2', file: file(s, 'image') });
  for (const node of ['raw', 'qcow2']) {
    await s.ok('block-dirty-bitmap-add', { node, name: 'b' });
    await s.ok('block-dirty-bitmap-add', { node, name: 'coarse', granularity: MiB });
    await s.io(node, 'write -P 1 0 4M');
    await s.closeGuest(node);
    await s.ok('block-dirty-bitmap-add', { node, name: 'off', disabled: true });
    const counts: number[] = [];
    for (const size of [2 * MiB, 2 * MiB + 512, 1 * MiB - 512, 8 * MiB, 0, 4 * MiB]) {
      await resize(s, node, size);
      counts.push((await s.bitmap(node, 'b')).count / KiB);
    }
    expect(counts).toEqual([2048, 2048, 1024, 1024, 0, 0]);
    await s.io(node, 'read -P 0 0 4M', 'write -P 2 3M 64k');
    await s.closeGuest(node);
    await s.bitmaps(node);
  }
});

scenario('RS-04', 'an image keeps its contents when it grows, and is whole', async s => {
  await s.image('image', { format: 'qcow2', size: '1M', options: 'cluster_size=4k' });
  await s.add({ driver: 'qcow2', 'node-name': 'q', file: file(s, 'image') });
  await s.io('q', 'write -P 1 0 1M');
  await s.closeGuest('q');
  // The last of them needs a larger L1 table, which moves.
  for (const size of [1 * MiB + 512, 64 * MiB, 2 * 1024 * MiB]) {
    await resize(s, 'q', size);
    await s.io('q', 'read -P 1 0 1M', `read -P 0 1M 512`, `write -P 2 ${size - 64 * KiB} 64k`, 'flush');
    await s.closeGuest('q');
  }
  await resize(s, 'q', 512 * KiB);
  await resize(s, 'q', 2 * MiB);
  await s.io('q', 'read -P 1 0 512k', 'read -P 0 512k 1536k');
  await s.closeGuest('q');
  await s.ok('blockdev-del', { 'node-name': 'q' });
  expect((await s.tool('qemu-img', 'check', '-q', s.path('image'))).code).toBe(0);
  expect(
    (await s.tool('qemu-io', '-c', 'read -q -P 1 0 512k', '-c', 'read -q -P 0 512k 1536k', s.path('image')))
      .code,
  ).toBe(0);
});

scenario('RS-05', 'an overlay does not show what lies behind its old end', async s => {
  await s.image('base', { format: 'qcow2', size: '2M' });
  await s.tool('qemu-io', '-f', 'qcow2', '-c', 'write -q -P 9 0 2M', s.path('base'));
  await s.image('over', { format: 'qcow2', backing: 'base', size: '1M' });
  await s.add({ driver: 'qcow2', 'node-name': 'over', file: file(s, 'over') });
  await s.io('over', 'read -P 9 0 1M');
  await s.closeGuest('over');
  await resize(s, 'over', 4 * MiB);
  await s.io('over', 'read -P 9 0 1M', 'read -P 0 1M 3M');
  await s.closeGuest('over');
  await resize(s, 'over', 512 * KiB);
  await resize(s, 'over', 1 * MiB);
  await s.io('over', 'read -P 9 0 512k', 'read -P 0 512k 512k');
});

scenario('BK-V12', 'neither source nor target of a backup is resized', async s => {
  for (const name of ['disk', 'target']) {
    await s.image(name, { format: 'qcow2', size: '1M' });
    await s.add({ driver: 'qcow2', 'node-name': name, file: file(s, name) });
  }
  await s.ok('block-dirty-bitmap-add', { node: 'disk', name: 'b' });
  const backup = { 'job-id': 'j', device: 'disk', target: 'target', sync: 'none', 'filter-node-name': 'cbw' };
  await s.ok('blockdev-backup', backup);
  expect(await refuse(s, { 'node-name': 'disk', size: 2 * MiB })).toMatch(/unshared by node 'cbw'/);
  expect(await refuse(s, { 'node-name': 'target', size: 2 * MiB })).toBe("Device '(null)' is in use");
  expect(await refuse(s, { device: 'disk', size: 2 * MiB })).toBe(
    "Cannot find device='disk' nor node-name=''",
  );
  await s.ok('block-job-cancel', { device: 'j' });
  await s.jobState('j', 'null');
  const full = { 'job-id': 'k', device: 'disk', target: 'target', sync: 'full', 'auto-finalize': false };
  await s.ok('blockdev-backup', { ...full, 'auto-dismiss': false });
  await s.jobState('k', 'pending');
  expect(await refuse(s, { 'node-name': 'target', size: 2 * MiB })).toBe("Device '(null)' is in use");
  await s.refused('block_resize', { 'node-name': 'disk', size: 2 * MiB });
  await s.ok('job-finalize', { id: 'k' });
  await s.jobState('k', 'concluded');
  for (const node of ['disk', 'target']) await resize(s, node, 2 * MiB);
  await s.bitmaps('disk');
});

scenario('BR-14', 'a size that no file can have', async s => {
  await s.image('disk', { format: 'raw', size: '1M' });
  await s.add({ driver: 'raw', 'node-name': 'disk', file: { driver: 'file', filename: s.path('disk') } });
  await s.ok('block-dirty-bitmap-add', { node: 'disk', name: 'b' });
  await s.refused('block_resize', { 'node-name': 'disk', size: 2 ** 52 });
  await s.ok('query-named-block-nodes', { flat: true });
  await s.ok('block_resize', { 'node-name': 'disk', size: 513 });
  await s.bitmap('disk', 'b');
});
