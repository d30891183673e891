// Bitmaps that an image keeps: over restarts, reopening, resizing and unclean ends.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect } from 'vitest';
import { scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const run = promisify(execFile);

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

const disk = (s: Session, more: object = {}) => ({
  driver: 'qcow2',
  'node-name': 'disk',
  file: { driver: 'file', filename: s.path('disk') },
  ...more,
});
const add = (s: Session, name: string, more: object = {}) =>
  s.ok('block-dirty-bitmap-add', { node: 'disk', name, persistent: true, ...more });
const remove = (s: Session, name: string) => s.ok('block-dirty-bitmap-remove', { node: 'disk', name });
const resize = (s: Session, size: number) => s.ok('block_resize', { 'node-name': 'disk', size });

const sha256 = (s: Session, name: string) =>
  s.ok<{ sha256: string }>('x-debug-block-dirty-bitmap-sha256', { node: 'disk', name });

/** The image closed and opened again. */
async function restart(s: Session, more: object = {}): Promise<void> {
  await s.closeGuest('disk');
  await s.ok('blockdev-del', { 'node-name': 'disk' });
  await listStored(s);
  await s.add(disk(s, more));
}

/** What qemu-img says of the image's bitmaps, traced, with a check of the image. */
async function listStored(s: Session, name = 'disk'): Promise<unknown> {
  const info = await run('qemu-img', ['info', '-U', '--output=json', s.path(name)]);
  const stored = JSON.parse(info.stdout)['format-specific'].data.bitmaps ?? [];
  s.note('stored', stored);
  await run('qemu-img', ['check', '-U', '-q', s.path(name)]);
  return stored;
}

scenario('BR-01', 'bitmaps survive restarts, and follow the size of the disk', async s => {
  await s.image('disk', { format: 'qcow2', size: '64G' });
  await s.add(disk(s));
  await add(s, 'Small', { granularity: 32 * KiB });
  await add(s, 'Medium');
  await add(s, 'Large', { granularity: 128 * KiB });
  await s.ok('block-dirty-bitmap-add', { node: 'disk', name: 'Transient' });
  await s.io('disk', 'write -P 1 1G 1M', 'write -P 2 63G 64k');
  await restart(s);
  expect((await s.bitmaps('disk')).map(({ name }) => name)).toEqual(['Large', 'Medium', 'Small']);
  await add(s, 'New');
  await s.io('disk', 'write -P 3 2G 1M');
  await s.closeGuest('disk');
  await resize(s, 70 * GiB);
  await add(s, 'Newtwo');
  await s.io('disk', 'write -P 3 69G 1M');
  await restart(s);
  await s.bitmaps('disk');
  await add(s, 'NewB');
  await remove(s, 'New');
  await resize(s, 50 * GiB);
  await add(s, 'NewC');
  await remove(s, 'Newtwo');
  await restart(s);
  const names = (await s.bitmaps('disk')).map(({ name }) => name);
  expect(names).toEqual(['Large', 'Medium', 'NewB', 'NewC', 'Small']);
  for (const name of names) await sha256(s, name!);
  for (const name of names) await remove(s, name!);
  await restart(s);
  expect(await s.bitmaps('disk')).toEqual([]);
});

scenario('BR-02', 'a disk keeps its size while a bitmap is busy or inconsistent', async s => {
  await s.image('disk', { format: 'qcow2', size: '4M' });
  await s.image('target', { format: 'qcow2', size: '4M' });
  await s.tool('qemu-img', 'bitmap', '--add', s.path('disk'), 'b');
  // As after an end without a close.
  await s.tool('qemu-io', '-f', 'qcow2', '-c', 'write -q 1M 64k', '-c', 'abort', s.path('disk'));
  await s.add(disk(s));
  const [found] = await s.bitmaps('disk');
  expect(found).toMatchObject({ name: 'b', inconsistent: true, persistent: true });
  await s.refused('block_resize', { 'node-name': 'disk', size: 8 * MiB });
  for (const command of ['clear', 'enable', 'disable'])
    await s.refused(`block-dirty-bitmap-${command}`, { node: 'disk', name: 'b' });
  await s.refused('block-dirty-bitmap-merge', { node: 'disk', target: 'b', bitmaps: ['b'] });
  await s.refused('block-dirty-bitmap-add', { node: 'disk', name: 'b' });
  await restart(s);
  await s.bitmaps('disk');
  await remove(s, 'b');
  await add(s, 'c');
  await s.io('disk', 'write -P 1 0 64k');
  await s.closeGuest('disk');
  await s.add({
    driver: 'qcow2',
    'node-name': 'target',
    file: { driver: 'file', filename: s.path('target') },
  });
  await s.ok('blockdev-backup', {
    'job-id': 'j',
    device: 'disk',
    target: 'target',
    sync: 'incremental',
    bitmap: 'c',
    'auto-finalize': false,
  });
  await s.jobState('j', 'pending');
  await s.refused('block_resize', { 'node-name': 'disk', size: 8 * MiB });
  await s.refused('block-dirty-bitmap-remove', { node: 'disk', name: 'c' });
  await s.ok('job-finalize', { id: 'j' });
  await s.jobState('j', 'null');
  await resize(s, 8 * MiB);
  await restart(s);
  await s.bitmaps('disk');
});

scenario('BR-03', 'stored bits past the end are gone when the disk has grown again', async s => {
  await s.image('disk', { format: 'qcow2', size: '4M' });
  await s.add(disk(s));
  await add(s, 'fine', { granularity: 512 });
  await add(s, 'coarse', { granularity: MiB });
  await s.io('disk', 'write -P 1 0 4M');
  await s.closeGuest('disk');
  for (const size of [2 * MiB + 512, 1 * MiB - 512, 8 * MiB]) {
    await resize(s, size);
    await restart(s);
    for (const { name } of await s.bitmaps('disk')) await sha256(s, name!);
  }
});

scenario('BR-04', 'what is written is recorded over restarts, and over reopening in place', async s => {
  await s.image('disk', { format: 'qcow2', size: '1G' });
  await s.add(disk(s));
  await add(s, 'bitmap0');
  const first = ['write -P 1 0 64k', 'write -P 1 100M 1M', 'write -P 1 1023M 1M'];
  const second = ['write -P 2 64k 512', 'write -P 2 500M 1M', 'write -P 2 1023M 64k'];
  await s.io('disk', ...first);
  const h1 = await sha256(s, 'bitmap0');
  await restart(s, { 'read-only': true });
  await restart(s);
  expect(await sha256(s, 'bitmap0')).toEqual(h1);
  await s.io('disk', ...second);
  const h2 = await sha256(s, 'bitmap0');
  expect(h2).not.toEqual(h1);
  await restart(s);
  expect(await sha256(s, 'bitmap0')).toEqual(h2);
});

scenario('BR-04b', 'read-only first, then written to: reopened in place', async s => {
  await s.image('disk', { format: 'qcow2', size: '64M' });
  await s.tool('qemu-img', 'bitmap', '--add', s.path('disk'), 'b');
  await s.tool('qemu-io', '-f', 'qcow2', '-c', 'write -q 1M 64k', s.path('disk'));
  await s.add(disk(s, { 'read-only': true }));
  const before = await sha256(s, 'b');
  await s.bitmaps('disk');
  await s.refused('block-dirty-bitmap-clear', { node: 'disk', name: 'b' });
  await s.refused('block-dirty-bitmap-merge', { node: 'disk', target: 'b', bitmaps: ['b'] });
  await s.ok('blockdev-reopen', { options: [disk(s)] });
  expect(await sha256(s, 'b')).toEqual(before);
  await s.io('disk', 'write -P 2 10M 64k');
  const after = await sha256(s, 'b');
  expect(after).not.toEqual(before);
  await s.closeGuest('disk');
  await s.ok('blockdev-reopen', { options: [disk(s, { 'read-only': true })] });
  expect(await sha256(s, 'b')).toEqual(after);
  await listStored(s);
  await s.ok('blockdev-reopen', { options: [disk(s)] });
  await restart(s);
  expect(await sha256(s, 'b')).toEqual(after);
});

scenario('BR-05', 'a bitmap of a read-only backing image goes only when that is written to', async s => {
  await s.image('disk', { format: 'qcow2', size: '4M' });
  await s.tool('qemu-img', 'bitmap', '--add', s.path('disk'), 'b');
  await s.image('over', { format: 'qcow2', backing: 'disk' });
  await s.add(disk(s, { 'read-only': true }));
  await s.add({
    driver: 'qcow2',
    'node-name': 'over',
    file: { driver: 'file', filename: s.path('over') },
    backing: 'disk',
  });
  await s.refused('block-dirty-bitmap-remove', { node: 'disk', name: 'b' });
  await s.bitmaps('disk');
  await s.ok('blockdev-reopen', { options: [disk(s)] });
  await remove(s, 'b');
  await s.ok('blockdev-reopen', { options: [disk(s, { 'read-only': true })] });
  expect(await listStored(s)).toEqual([]);
  expect(await s.bitmaps('disk')).toEqual([]);
});

scenario('BR-13', 'enabled, disabled, merged and cleared bitmaps are stored as they are', async s => {
  await s.image('disk', { format: 'qcow2', size: '16M', options: 'cluster_size=4k' });
  await s.add(disk(s));
  await add(s, 'a', { granularity: 512 });
  await add(s, 'b', { disabled: true });
  await add(s, 'c', { granularity: MiB });
  await s.io('disk', 'write -P 1 1M 64k', 'write -z 5M 1M', 'discard 9M 64k');
  await s.ok('block-dirty-bitmap-merge', { node: 'disk', target: 'b', bitmaps: ['a'] });
  await s.ok('block-dirty-bitmap-disable', { node: 'disk', name: 'a' });
  await s.ok('block-dirty-bitmap-enable', { node: 'disk', name: 'b' });
  await s.ok('block-dirty-bitmap-clear', { node: 'disk', name: 'c' });
  await restart(s);
  await s.bitmaps('disk');
  for (const name of ['a', 'b', 'c']) await sha256(s, name);
  await s.io('disk', 'write -P 1 12M 64k');
  await restart(s);
  await s.bitmaps('disk');
  for (const name of ['a', 'b', 'c']) await sha256(s, name);
});

scenario('BR-14', 'bitmaps that no image keeps are refused, with the reason', async s => {
  await s.image('disk', { format: 'qcow2', size: '8T' });
  await s.image('old', { format: 'qcow2', size: '1M', options: 'compat=0.10' });
  await s.image('raw', { format: 'raw', size: '1M' });
  await s.add(disk(s));
  await s.add({ driver: 'qcow2', 'node-name': 'old', file: { driver: 'file', filename: s.path('old') } });
  await s.add({ driver: 'raw', 'node-name': 'raw', file: { driver: 'file', filename: s.path('raw') } });
  const refuse = (node: string, more: object = {}) =>
    s.refused('block-dirty-bitmap-add', { node, name: 'b', persistent: true, ...more });
  await refuse('old');
  await refuse('raw');
  await refuse('disk', { granularity: 1024 });
  await refuse('disk', { granularity: 256 });
  await refuse('disk', { name: 'x'.repeat(1024) });
  await add(s, 'y'.repeat(1023), { granularity: 64 * MiB });
  await refuse('disk', { name: 'y'.repeat(1023) });
  await restart(s);
  expect(await s.bitmaps('disk')).toHaveLength(1);
});

scenario('BR-15', 'a transaction that fails leaves the stored bitmaps as they were', async s => {
  await s.image('disk', { format: 'qcow2', size: '4M' });
  await s.add(disk(s));
  await add(s, 'a');
  await s.io('disk', 'write -P 1 1M 64k');
  const action = (type: string, name: string, more: object = {}) => ({
    type: `block-dirty-bitmap-${type}`,
    data: { node: 'disk', name, ...more },
  });
  await s.refused('transaction', {
    actions: [
      action('add', 'b', { persistent: true }),
      action('clear', 'a'),
      action('remove', 'a'),
      { type: 'abort', data: {} },
    ],
  });
  await s.bitmaps('disk');
  await s.ok('transaction', { actions: [action('add', 'c', { persistent: true }), action('remove', 'a')] });
  await restart(s);
  await s.bitmaps('disk');
});

scenario('BR-16', 'bitmaps are stored when the daemon ends', async s => {
  await s.image('disk', { format: 'qcow2', size: '16M' });
  await s.tool('qemu-img', 'bitmap', '--add', s.path('disk'), 'b');
  await s.add(disk(s));
  await add(s, 'c', { granularity: 512 });
  await s.io('disk', 'write -P 1 1M 64k', 'write -P 2 9M 512', 'flush');
  // What the image says meanwhile.
  const nodes =
    await s.ask<{ 'node-name': string; image: { 'format-specific': object } }[]>('query-named-block-nodes');
  s.note('format', nodes.find(node => node['node-name'] === 'disk')!.image['format-specific']);
  await s.daemon.quit();
  expect(await listStored(s)).toEqual([
    { flags: ['auto'], name: 'b', granularity: 64 * KiB },
    { flags: ['auto'], name: 'c', granularity: 512 },
  ]);
});

scenario('BR-17', 'in a copy of an image in use, as a kill would leave it, they are in use', async s => {
  await s.image('disk', { format: 'qcow2', size: '16M' });
  await s.tool('qemu-img', 'bitmap', '--add', s.path('disk'), 'b');
  await s.add(disk(s));
  await add(s, 'c');
  await s.io('disk', 'write -P 1 1M 64k', 'flush');
  await run('cp', [s.path('disk'), s.path('copy')]);
  expect(await listStored(s, 'copy')).toEqual([
    { flags: ['in-use', 'auto'], name: 'b', granularity: 64 * KiB },
  ]);
  const copy = { driver: 'qcow2', 'node-name': 'copy', file: { driver: 'file', filename: s.path('copy') } };
  await s.add(copy);
  expect(await s.bitmaps('copy')).toMatchObject([{ name: 'b', inconsistent: true, recording: false }]);
  await s.io('copy', 'read -P 1 1M 64k', 'write -P 2 2M 64k');
  await s.ok('block-dirty-bitmap-remove', { node: 'copy', name: 'b' });
  await s.closeGuest('copy');
  await s.ok('blockdev-del', { 'node-name': 'copy' });
  expect(await listStored(s, 'copy')).toEqual([]);
});
