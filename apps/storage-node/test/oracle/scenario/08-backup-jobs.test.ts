// What a backup job does while it runs: what it copies, and how guests meet it.
import { truncate, writeFile } from 'node:fs/promises';
import { expect } from 'vitest';
import {
  closeDisk,
  expectEqual,
  jobEnded,
  newDisk,
  openDisk,
  reference,
  startBackup,
} from '../backup-chain.ts';
import { jobsAre, lookAt, offsetOf } from '../job-watch.ts';
import { ours, scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const MiB = 1024 * 1024;
const DATA = [
  'write -P 0x41 0 512',
  'write -P 0xd5 1M 32k',
  'write -P 0xdc 32M 124k',
  'write -P 0xdc 67043328 64k',
];

scenario('BJ-01', 'sync top copies the overlay; the target has the same backing', async s => {
  await s.image('base', { format: 'raw', size: '64M' });
  await s.tool('qemu-io', '-f', 'raw', '-c', 'write -q -P 0x77 0 2M', s.path('base'));
  for (const name of ['disk', 'target']) {
    await s.image(name, { format: 'qcow2', size: '64M', backing: 'base', backingFormat: 'raw' });
    await openDisk(s, name);
  }
  await s.io('disk', ...DATA);
  await startBackup(s, 'disk', 'target', { sync: 'top' });
  const { data } = await jobEnded(s, 'target');
  expect(data?.len).toBe(data?.offset);
  await expectEqual(s, 'disk', 'target');
});

scenario('BJ-02', 'sync none keeps what guests overwrite, and never ends by itself', async s => {
  await newDisk(s, 'disk');
  await newDisk(s, 'target');
  await s.io('disk', ...DATA);
  await startBackup(s, 'disk', 'target', { sync: 'none' });
  await s.io('disk', 'write -P 0x5e 0 512', 'write -z 1M 64k', 'write -P 1 32M 64k');
  const seen = await lookAt(s, 'target');
  expect(seen).toMatchObject({ status: 'running', offset: 3 * 65_536, len: 64 * MiB });
  await s.ok('block-job-cancel', { device: 'target' });
  await jobEnded(s, 'target', 'BLOCK_JOB_CANCELLED');
  await s.io(
    'target',
    'read -P 0x41 0 512',
    'read -P 0xd5 1M 32k',
    'read -P 0xdc 32M 64k',
    'read -P 0 33M 1M',
  );
  await s.io('disk', 'read -P 0x5e 0 512', 'read -P 0 1M 64k');
});

scenario('BJ-03', 'a guest write that the disk must align is copied before once', async s => {
  await s.image('disk', { format: 'raw', size: '4M' });
  const image = { driver: 'file', filename: s.path('disk') };
  await s.add({ driver: 'raw', 'node-name': 'disk', file: { driver: 'blkdebug', image, align: 65_536 } });
  await newDisk(s, 'target', { size: '4M' });
  await s.io('disk', 'write -P 7 0 2M');
  await startBackup(s, 'disk', 'target', { sync: 'full', speed: 1, 'x-perf': { 'max-chunk': 65_536 } });
  await s.until('the first step', async () => (await offsetOf(s, 'target')) === 65_536);
  await s.ok('job-pause', { id: 'target' });
  await jobsAre(s, ['target'], 'paused');
  await s.io('disk', 'write -P 8 512512 512');
  expect(await offsetOf(s, 'target')).toBe(2 * 65_536);
  await s.ok('job-resume', { id: 'target' });
  await s.ok('job-cancel', { id: 'target' });
  await jobEnded(s, 'target', 'BLOCK_JOB_CANCELLED');
  await s.io('target', 'read -P 7 458752 65536');
});

scenario('BJ-04', 'a large guest write leaves the middle alone that is copied already', async s => {
  await newDisk(s, 'disk');
  await newDisk(s, 'target');
  await s.io('disk', 'write -P 42 0 2M');
  await reference(s, 'disk', 'ref');
  await startBackup(s, 'disk', 'target', { sync: 'full', speed: 1, 'x-perf': { 'max-chunk': 65_536 } });
  await s.until('the first step', async () => (await offsetOf(s, 'target')) === 65_536);
  await s.io('disk', 'write -P 23 1114112 64k');
  expect(await offsetOf(s, 'target')).toBe(2 * 65_536);
  await s.io('disk', 'write -P 66 1M 1M');
  expect(await offsetOf(s, 'target')).toBe(17 * 65_536);
  await s.ok('block-job-set-speed', { device: 'target', speed: 0 });
  await jobEnded(s, 'target');
  await s.ok('blockdev-del', { 'node-name': 'target' });
  expect(await s.compare('target', 'ref')).toBe(true);
});

/** The commands as such, and the same inside a transaction. */
const WAYS = [
  ['by command', startBackup],
  [
    'in a transaction',
    (s: Session, device: string, target: string, args: object) => {
      const data = { 'job-id': target, device, target, ...args };
      return s.ok('transaction', { actions: [{ type: 'blockdev-backup', data }] });
    },
  ],
] as const;

for (const [way, start] of WAYS) {
  scenario(`BJ-08 ${way}`, `a backup started ${way} and cancelled leaves a free disk`, async s => {
    await newDisk(s, 'disk');
    await newDisk(s, 'target');
    await s.io('disk', ...DATA);
    await start(s, 'disk', 'target', { sync: 'full', speed: 65_536 });
    await s.ok('block-job-cancel', { device: 'target' });
    await jobEnded(s, 'target', 'BLOCK_JOB_CANCELLED');
    await s.io('disk', 'write -P 9 0 1M', 'read -P 9 0 1M');
    await closeDisk(s, 'disk');
    await s.ok('query-block-jobs');
  });

  scenario(`BJ-09 ${way}`, `a backup started ${way} stands still while it is paused`, async s => {
    await newDisk(s, 'disk');
    await newDisk(s, 'target');
    await s.io('disk', ...DATA);
    await start(s, 'disk', 'target', { sync: 'full', speed: 4 * MiB });
    await s.until('a step', async () => (await offsetOf(s, 'target')) > 0);
    await s.ok('job-pause', { id: 'target' });
    await jobsAre(s, ['target'], 'paused');
    const before = await offsetOf(s, 'target');
    await new Promise(resolve => setTimeout(resolve, 500));
    expect(await offsetOf(s, 'target')).toBe(before);
    await s.ok('job-resume', { id: 'target' });
    await s.ok('block-job-set-speed', { device: 'target', speed: 0 });
    await jobEnded(s, 'target');
    await expectEqual(s, 'disk', 'target');
  });
}

scenario('BJ-10', 'a compressed backup has the contents of its source', async s => {
  await newDisk(s, 'disk');
  await newDisk(s, 'target');
  await s.io('disk', ...DATA, 'write -P 0x11 8M 4M');
  await startBackup(s, 'disk', 'target', { sync: 'full', compress: true, speed: 1 });
  await s.until('a step', async () => (await offsetOf(s, 'target')) > 0);
  await s.ok('job-cancel', { id: 'target' });
  await jobEnded(s, 'target', 'BLOCK_JOB_CANCELLED');
  await s.ok('blockdev-del', { 'node-name': 'target' });
  await newDisk(s, 'target');
  await startBackup(s, 'disk', 'target', { sync: 'full', compress: true, speed: 4 * MiB });
  await s.ok('job-pause', { id: 'target' });
  await jobsAre(s, ['target'], 'paused');
  await s.ok('job-resume', { id: 'target' });
  await s.ok('block-job-set-speed', { device: 'target', speed: 0 });
  await jobEnded(s, 'target');
  await expectEqual(s, 'disk', 'target');
  const { stdout } = await s.tool('qemu-img', 'check', '--output=json', s.path('target'));
  expect(JSON.parse(stdout)['compressed-clusters']).toBeGreaterThan(60);
});

scenario('BJ-13', 'a disk whose size is no multiple of a sector is copied to its last byte', async s => {
  for (const name of ['disk', 'target']) {
    await writeFile(s.path(name), '');
    await truncate(s.path(name), 4097);
    await s.add({ driver: 'raw', 'node-name': name, file: { driver: 'file', filename: s.path(name) } });
  }
  await s.io('disk', 'write -P 0x16 0 4096', 'write -P 0x17 4096 1');
  await startBackup(s, 'disk', 'target', { sync: 'full' });
  await jobEnded(s, 'target');
  await closeDisk(s, 'disk');
  await s.ok('blockdev-del', { 'node-name': 'target' });
  expect(await s.compare('disk', 'target', { one: 'raw' })).toBe(true);
});

scenario('BJ-15', 'with 64 KiB/s one chunk of 64 KiB is what the first slice copies', async s => {
  await newDisk(s, 'disk');
  await newDisk(s, 'target');
  await s.io('disk', 'write -P 1 0 1M');
  await startBackup(s, 'disk', 'target', { sync: 'full', speed: 65_536, 'x-perf': { 'max-chunk': 65_536 } });
  await s.until('the first step', async () => (await offsetOf(s, 'target')) > 0);
  await new Promise(resolve => setTimeout(resolve, 300));
  expect(await offsetOf(s, 'target')).toBe(65_536);
  await s.ok('job-cancel', { id: 'target' });
  const { data } = await jobEnded(s, 'target', 'BLOCK_JOB_CANCELLED');
  expect(data).toMatchObject({ offset: 65_536, len: 64 * MiB, speed: 65_536 });
});

scenario('BJ-15b', 'whoever has nothing left to copy does not wait for the speed limit', async s => {
  await newDisk(s, 'disk', { size: '4M' });
  await newDisk(s, 'target', { size: '4M' });
  await s.io('disk', 'write -P 1 0 1M');
  await s.ok('block-dirty-bitmap-add', { node: 'disk', name: 'b' });
  await s.io('disk', 'write -P 2 0 512k');
  const started = performance.now();
  await startBackup(s, 'disk', 'target', { sync: 'incremental', bitmap: 'b', speed: 1024 });
  await jobEnded(s, 'target');
  // With the limit it would be eight minutes.
  expect(performance.now() - started).toBeLessThan(60_000);
});

scenario('BJ-15c', 'bytes that the kernel moves between raw files are the same bytes', async s => {
  for (const name of ['disk', 'target']) {
    await s.image(name, { format: 'raw', size: '8M' });
    const file = { driver: 'file', filename: s.path(name) };
    await s.add({ driver: 'raw', 'node-name': name, file });
  }
  await s.ok('block-dirty-bitmap-add', { node: 'target', name: 'written' });
  await s.io('disk', 'write -P 1 0 3M', 'write -P 2 4M 100k', 'write -P 3 8388096 512');
  const held = { 'auto-finalize': false, 'x-perf': { 'use-copy-range': true, 'max-workers': 2 } };
  await startBackup(s, 'disk', 'target', { sync: 'full', ...held });
  await s.io('disk', 'write -P 9 0 8M');
  await jobsAre(s, ['target'], 'pending');
  await s.ok('job-finalize', { id: 'target' });
  await jobEnded(s, 'target');
  await s.bitmap('target', 'written');
  const io = ['read -P 1 0 3M', 'read -P 0 3M 1M', 'read -P 2 4M 100k', 'read -P 3 8388096 512'];
  await s.io('target', ...io, 'read -P 0 5M 3071k');
});

scenario(
  'BJ-17',
  'the filter can be written through until the job is finalized, and is gone afterwards',
  async s => {
    await newDisk(s, 'disk', { size: '4M' });
    await newDisk(s, 'target', { size: '4M' });
    const held = { sync: 'full', 'auto-finalize': false, 'filter-node-name': 'flt' };
    await startBackup(s, 'disk', 'target', held);
    await jobsAre(s, ['target'], 'pending');
    await s.io('flt', 'write -P 5 0 64k', 'read -P 5 0 64k');
    await s.closeGuest('flt');
    await s.ok('job-finalize', { id: 'target' });
    await jobEnded(s, 'target');
    const exported = { id: 'e', type: 'nbd', 'node-name': 'flt', writable: true };
    expect((await s.refused('block-export-add', exported)).desc).toContain("node-name='flt'");
  },
);

scenario(
  'BJ-19',
  'two backups of one disk, begun one after the other, each hold their own moment',
  async s => {
    await newDisk(s, 'disk');
    for (const name of ['one', 'two']) await newDisk(s, name);
    await s.io('disk', ...DATA);
    await reference(s, 'disk', 'ref1');
    await startBackup(s, 'disk', 'one', { sync: 'full', speed: 1 });
    await s.io('disk', 'write -P 0x99 33M 1M');
    await reference(s, 'disk', 'ref2');
    await startBackup(s, 'disk', 'two', { sync: 'full', speed: 1 });
    await s.io('disk', 'write -P 0x98 32M 4M', 'write -z 63M 1M');
    for (const id of ['one', 'two']) {
      await s.ok('block-job-set-speed', { device: id, speed: 0 });
      await s.until(`the end of ${id}`, async () => (await lookAt(s, id)) === undefined);
      await s.ok('blockdev-del', { 'node-name': id });
    }
    expect(await s.compare('one', 'ref1')).toBe(true);
    expect(await s.compare('two', 'ref2')).toBe(true);
  },
);

ours('BJ-21', 'what guests read feeds a backup that asks for it', async s => {
  await newDisk(s, 'disk', { size: '4M' });
  await newDisk(s, 'target', { size: '4M' });
  await s.io('disk', 'write -P 0x21 0 4M');
  const slow = { sync: 'full', speed: 1, 'x-perf': { 'max-chunk': 65_536 } };
  await startBackup(s, 'disk', 'target', { ...slow, 'x-tidemark-feed-from-reads': true });
  await s.until('the first step', async () => (await offsetOf(s, 'target')) === 65_536);
  await s.io('disk', 'read -P 0x21 2M 1M', 'read -P 0x21 100k 100k');
  // A megabyte of whole clusters, and of the small read the one cluster that it covers.
  await s.until('what was read', async () => (await offsetOf(s, 'target')) === 18 * 65_536);
  await s.ok('block-job-set-speed', { device: 'target', speed: 0 });
  await jobEnded(s, 'target');
  await expectEqual(s, 'disk', 'target');
});
