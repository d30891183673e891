// External snapshots, as commands and in transactions: guests follow to the overlay at one instant, the base stays
// as it is, and what fails leaves neither block nodes nor bitmaps behind.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { expect } from 'vitest';
import { ABORT, bitmapAction } from '../backup-chain.ts';
import { ours, scenario } from '../scenario.ts';
import {
  addQcow2,
  addRaw,
  disks,
  info,
  query,
  refuse,
  SNAPSHOT,
  SYNC,
  snapshot,
  sync,
  syncAction,
} from '../snapshots.ts';

scenario('SN-01', 'an overlay takes over the guest, and the base stays as it is', async s => {
  await disks(s);
  await s.io('d', 'write -P 1 0 1M');
  await s.ok(SNAPSHOT, { node: 'd', overlay: 'o' });
  await query(s);
  await s.io('d', 'read -P 1 0 1M', 'write -P 2 64k 4k', 'read -P 2 64k 4k', 'read -P 1 68k 60k');
  expect(await refuse(s, 'blockdev-del', { 'node-name': 'd' })).toMatch(/backing hd of 'o'/);
  await refuse(s, SNAPSHOT, { node: 'd', overlay: 'q' });
  await s.closeGuest('d');
  await s.ok('blockdev-del', { 'node-name': 'o' });
  await query(s);
  await s.tool('qemu-io', '-r', '-f', 'raw', '-c', 'read -q -P 1 0 1M', s.path('d'));
  expect((await s.tool('qemu-img', 'check', '-q', s.path('o'))).code).toBe(0);
});

scenario('SN-02', 'a file is made for the overlay, with the base as its backing image', async s => {
  await disks(s);
  await s.io('q', 'write -P 1 0 1M');
  await s.ok(SYNC, sync(s, 'q', 's1'));
  await s.io('q', 'write -P 2 1M 64k', 'read -P 1 0 1M', 'read -P 2 1M 64k');
  await s.ok(SYNC, sync(s, 's1', 's2', { format: 'qcow2', mode: 'absolute-paths' }));
  await s.ok(SYNC, sync(s, 's2', 'o2', { mode: 'existing' }));
  await query(s);
  await query(s, true);
  await s.io('q', 'read -P 1 0 1M', 'read -P 2 1M 64k', 'write -P 3 0 512', 'discard 1M 64k');
  await s.daemon.quit();
  for (const name of ['s1', 's2', 'o2']) {
    await s.tool('qemu-img', 'check', '-q', s.path(name));
    await info(s, name);
  }
  await s.tool('qemu-img', 'compare', s.path('q'), s.path('s2'));
});

scenario('SN-03', 'an overlay that nobody uses goes at once, and its file stays', async s => {
  await disks(s);
  await s.ok(SYNC, sync(s, 'd', 's1'));
  await s.ok(SYNC, { ...sync(s, 'q', 's2'), device: 'nobody' });
  expect((await query(s)).map(node => node['node-name'])).not.toContain('s1');
  expect([existsSync(s.path('s1')), existsSync(s.path('s2'))]).toEqual([true, true]);
});

scenario('SN-04', 'what is no block node or no overlay is refused', async s => {
  await disks(s);
  await s.image('t', { format: 'raw', size: '4M' });
  await addRaw(s, 't');
  await s.add({ driver: 'null-co', 'node-name': 'n', size: 4_194_304 });
  await s.image('ob', { format: 'qcow2', backing: 'q' });
  for (const [node, overlay] of [
    ['x', 'o'],
    ['q', 'x'],
    ['q', 'q'],
    ['q', 'd'],
    ['q', 'n'],
  ]) {
    await refuse(s, SNAPSHOT, { node, overlay });
  }
  await s.guest('o');
  expect(await refuse(s, SNAPSHOT, { node: 'd', overlay: 'o' })).toBe('The overlay is already in use');
  await s.closeGuest('o');
  await addQcow2(s, 'ob', { backing: 'q' });
  expect(await refuse(s, SNAPSHOT, { node: 'd', overlay: 'ob' })).toMatch(/already has a backing image/);
  await s.ok('blockdev-del', { 'node-name': 'ob' });
  await addQcow2(s, 'o2', { backing: null, 'read-only': true });
  await s.guest('t');
  expect(await refuse(s, SNAPSHOT, { node: 't', overlay: 'o2' })).toBe('Block node is read-only');
  await s.ok(SNAPSHOT, { node: 'd', overlay: 'o2' });
  await query(s);
});

scenario('SN-05', 'a file that cannot be made is refused', async s => {
  await disks(s);
  await refuse(s, SYNC, { 'snapshot-file': s.path('s') });
  await refuse(s, SYNC, { device: 'q', 'snapshot-file': s.path('s') });
  await refuse(s, SYNC, sync(s, 'x', 's'));
  await refuse(s, SYNC, { 'node-name': 'q', 'snapshot-file': s.path('s') });
  for (const name of ['q', '1bad', '', 'x'.repeat(40)]) {
    await refuse(s, SYNC, sync(s, 'd', 's', { 'snapshot-node-name': name }));
  }
  for (const format of ['raw', 'foo']) await refuse(s, SYNC, sync(s, 'd', 's', { format }));
  for (const format of ['raw', 'foo']) {
    await refuse(s, SYNC, sync(s, 'd', 'o2', { format, mode: 'existing' }));
  }
  await refuse(s, SYNC, sync(s, 'd', 's', { mode: 'foo' }));
  await refuse(s, SYNC, sync(s, 'd', 'missing', { mode: 'existing' }));
  for (const path of ['/nowhere/s', s.path('d'), s.path(''), '', 'foo:bar', s.path('x'.repeat(300))]) {
    await refuse(s, SYNC, sync(s, 'd', 's', { 'snapshot-file': path }));
  }
  await s.guest('q');
  expect(await refuse(s, SYNC, sync(s, 'd', 'q', { 'snapshot-node-name': 's' }))).toMatch(/write.* lock/);
  await refuse(s, SYNC, sync(s, 'd', 'q', { 'snapshot-node-name': 's', mode: 'existing' }));
  await query(s);
});

scenario('SN-06', 'filters and formats below and above an overlay', async s => {
  await disks(s);
  await s.image('t', { format: 'raw', size: '4M' });
  await s.ok('object-add', { 'qom-type': 'throttle-group', id: 'tg' });
  await addRaw(s, 't');
  await s.add({ driver: 'throttle', 'node-name': 'th', file: 't', 'throttle-group': 'tg' });
  await s.io('th', 'write -P 1 0 64k');
  await s.ok(SYNC, sync(s, 'th', 'above'));
  await s.ok(SYNC, sync(s, 't', 'below'));
  await query(s);
  await s.io('th', 'read -P 1 0 64k', 'write -P 2 0 4k');
  await info(s, 'above');
  await s.add({ driver: 'raw', 'node-name': 'over-o', file: 'o' });
  await s.ok(SNAPSHOT, { node: 'd', overlay: 'o' });
  await query(s);
  await s.io('over-o', 'write -P 5 0 64k', 'read -P 0 64k 64k');
});

scenario('SN-07', 'a backup goes on while its source gets an overlay', async s => {
  await disks(s);
  await s.image('t', { format: 'raw', size: '4M' });
  await addRaw(s, 't');
  await s.io('d', 'write -P 1 0 4M');
  const backup = { 'job-id': 'j', device: 'd', target: 't', sync: 'full', speed: 65_536 };
  await s.ok('blockdev-backup', { ...backup, 'filter-node-name': 'cbw' });
  await s.ok(SNAPSHOT, { node: 'd', overlay: 'o' });
  await query(s);
  await refuse(s, SNAPSHOT, { node: 't', overlay: 'q' });
  await s.io('d', 'write -P 2 1M 1M', 'read -P 2 1M 1M', 'read -P 1 2M 1M');
  await s.ok('block-job-set-speed', { device: 'j', speed: 0 });
  await s.jobState('j', 'null');
  await s.io('d', 'read -P 2 1M 1M', 'read -P 1 2M 2M');
  await s.ok('blockdev-del', { 'node-name': 't' });
  await s.tool('qemu-io', '-r', '-f', 'raw', '-c', 'read -q -P 1 0 4M', s.path('t'));
  await s.tool('qemu-io', '-r', '-U', '-f', 'raw', '-c', 'read -q -P 1 0 4M', s.path('d'));
  await query(s);
});

scenario('SN-08', 'a transaction that is aborted has taken no snapshot', async s => {
  await disks(s);
  await s.ok('block-dirty-bitmap-add', { node: 'd', name: 'b' });
  await s.io('d', 'write -P 1 0 64k');
  const refuseAll = async (...actions: object[]) => refuse(s, 'transaction', { actions });
  expect(await refuseAll(snapshot('d', 'o'), ABORT)).toBe('Transaction aborted using Abort action');
  await refuseAll(syncAction(s, 'd', 's1'), bitmapAction('add', { node: 's1', name: 'x' }), ABORT);
  await refuseAll(snapshot('d', 'o'), syncAction(s, 'q', 's1'), ABORT);
  await refuseAll(snapshot('d', 'o'), snapshot('d', 'o'));
  await refuseAll(snapshot('d', 'o'), snapshot('q', 'o'));
  await refuseAll(syncAction(s, 'd', 's1'), syncAction(s, 'q', 's1'));
  const impossible = { type: SYNC, data: sync(s, 'q', 's2', { 'snapshot-file': '/nowhere/s2' }) };
  await refuseAll(syncAction(s, 'd', 's1'), impossible);
  await refuseAll(bitmapAction('clear', { node: 'd', name: 'b' }), impossible);
  await refuseAll(impossible, bitmapAction('clear', { node: 'd', name: 'nobody' }));
  await query(s);
  await s.bitmaps('d');
  await s.io('d', 'read -P 1 0 64k', 'write -P 2 64k 64k');
  await s.bitmaps('d');
  await refuse(s, 'transaction', {
    actions: [snapshot('d', 'o')],
    properties: { 'completion-mode': 'grouped' },
  });
});

scenario('SN-09', 'several snapshots and bitmaps at one instant', async s => {
  await disks(s);
  for (const name of ['move', 'copy']) await s.ok('block-dirty-bitmap-add', { node: 'd', name });
  await s.io('d', 'write -P 1 0 512k');
  await s.io('q', 'write -P 1 0 512k');
  const into = (name: string) => [
    bitmapAction('add', { node: 's1', name }),
    bitmapAction('merge', { node: 's1', target: name, bitmaps: [{ node: 'd', name }] }),
  ];
  await s.ok('transaction', {
    actions: [
      syncAction(s, 'd', 's1'),
      snapshot('q', 'o'),
      ...into('move'),
      ...into('copy'),
      bitmapAction('remove', { node: 'd', name: 'move' }),
    ],
  });
  expect((await s.bitmaps('s1')).map(({ count }) => count)).toEqual([524_288, 524_288]);
  expect((await s.bitmaps('d')).map(({ name }) => name)).toEqual(['copy']);
  await s.io('d', 'write -P 2 1M 64k', 'read -P 1 0 512k');
  await s.io('q', 'write -P 2 1M 64k', 'read -P 1 0 512k');
  await s.bitmaps('s1');
  await s.bitmaps('d');
  await query(s);
});

scenario('SN-10', 'a backup of the base or of the overlay in the same transaction', async s => {
  await disks(s);
  for (const name of ['t', 't2']) {
    await s.image(name, { format: 'raw', size: '4M' });
    await addRaw(s, name);
  }
  await s.io('d', 'write -P 1 0 4M');
  const backup = (id: string, device: string, target: string) => ({
    type: 'blockdev-backup',
    data: { 'job-id': id, device, target, sync: 'full' },
  });
  await s.ok('transaction', { actions: [snapshot('d', 'o'), backup('j', 'o', 't')] });
  await s.jobState('j', 'null');
  await s.ok('transaction', { actions: [backup('j2', 'o', 't2'), syncAction(s, 'o', 's1')] });
  await s.jobState('j2', 'null');
  await query(s);
  await s.io('d', 'write -P 2 0 64k');
  for (const name of ['t', 't2']) {
    await s.ok('blockdev-del', { 'node-name': name });
    await s.tool('qemu-io', '-r', '-f', 'raw', '-c', 'read -q -P 1 0 4M', s.path(name));
  }
});

scenario('SN-11', 'an overlay of another size than its base', async s => {
  await s.image('d', { format: 'raw', size: '4M' });
  await addRaw(s, 'd');
  await s.io('d', 'write -P 1 0 4M');
  for (const [name, size] of [
    ['small', '2M'],
    ['large', '8M'],
  ] as const) {
    await s.image(name, { format: 'qcow2', size });
    await addQcow2(s, name, { backing: null });
  }
  await s.ok(SNAPSHOT, { node: 'd', overlay: 'large' });
  await query(s);
  await s.ok(SNAPSHOT, { node: 'large', overlay: 'small' });
  await query(s);
});

ours('SN-12', 'files that were made for an aborted transaction are gone again', async s => {
  await disks(s);
  const before = readFileSync(s.path('o2'));
  writeFileSync(s.path('text'), 'what lay there before');
  const actions = [syncAction(s, 'd', 's1'), syncAction(s, 'q', 'text'), ABORT];
  await s.refused('transaction', { actions });
  expect(existsSync(s.path('s1'))).toBe(false);
  expect(readFileSync(s.path('text'), 'utf8')).toBe('what lay there before');
  await s.refused(SYNC, sync(s, 'd', 's1', { 'snapshot-node-name': '1bad' }));
  expect(existsSync(s.path('s1'))).toBe(false);
  await s.refused('transaction', {
    actions: [{ type: SYNC, data: sync(s, 'd', 'o2', { mode: 'existing' }) }, ABORT],
  });
  expect(readFileSync(s.path('o2')).equals(before)).toBe(true);
  await s.ok(SYNC, sync(s, 'q', 'text'));
  const { stdout } = await s.peek('ls', s.folder);
  expect(stdout).not.toMatch(/tidemark-/);
  expect((await s.tool('qemu-img', 'check', '-q', s.path('text'))).code).toBe(0);
});
