// Backups from a frozen moment that give back the space of what they have copied. QEMU 7.2 cannot.
import { expect } from 'vitest';
import { ours } from '../scenario.ts';
import type { Session } from '../session.ts';

const MiB = 1 << 20;

/** Source `disk` of 1 MiB of 0x11; filter `cbw` with `temp`; `access` above it; a bitmap counts what reaches temp. */
async function wire(s: Session): Promise<void> {
  await s.image('disk', { format: 'raw', size: MiB });
  await s.image('temp', { format: 'qcow2', size: MiB });
  await s.image('final', { format: 'qcow2', size: MiB });
  await s.add({ driver: 'raw', 'node-name': 'disk', file: { driver: 'file', filename: s.path('disk') } });
  await s.io('disk', 'write -P 0x11 0 1M');
  await s.closeGuest('disk');
  for (const name of ['temp', 'final']) {
    const file = { driver: 'file', filename: s.path(name) };
    await s.add({ driver: 'qcow2', 'node-name': name, discard: 'unmap', file });
  }
  await s.ok('block-dirty-bitmap-add', { node: 'temp', name: 'written' });
  await s.add({ driver: 'copy-before-write', 'node-name': 'cbw', file: 'disk', target: 'temp' });
  await s.add({ driver: 'snapshot-access', 'node-name': 'access', file: 'cbw', discard: 'unmap' });
}

async function backup(s: Session): Promise<void> {
  const job = { 'job-id': 'push', device: 'access', target: 'final', sync: 'full' };
  await s.ok('blockdev-backup', { ...job, 'discard-source': true });
  const { data } = await s.event('BLOCK_JOB_COMPLETED', { device: 'push' });
  expect(data).not.toHaveProperty('error');
  await s.jobState('push', 'null');
}

async function snapshotIsGone(s: Session): Promise<void> {
  await s.nbdSocket();
  await s.ok('block-export-add', { type: 'nbd', id: 'access', 'node-name': 'access' });
  expect(await s.readExport('access', 'read 0 64k')).toContain('Invalid argument');
  await s.ok('block-export-del', { id: 'access', mode: 'hard' });
}

async function contentsOfFinal(s: Session): Promise<void> {
  await s.ok('blockdev-del', { 'node-name': 'final' });
  const file = { driver: 'file', filename: s.path('final') };
  await s.add({ driver: 'qcow2', 'node-name': 'final', file });
  expect(await s.io('final', 'read -P 0x11 0 1M')).not.toContain('failed');
}

ours('DS-01', 'what was copied before writes is given back once it is backed up', async s => {
  await wire(s);
  await s.io('cbw', 'write -P 0x22 0 1M');
  expect((await s.bitmap('temp', 'written')).count).toBe(MiB);
  await backup(s);
  await s.nbdSocket();
  await s.ok('block-export-add', { type: 'nbd', id: 'temp', 'node-name': 'temp', 'allocation-depth': true });
  expect(await s.map('temp', 'qemu:allocation-depth')).not.toContainEqual([0, MiB, 1]);
  expect(await s.map('temp')).toEqual([[0, MiB, 3]]);
  await s.ok('block-export-del', { id: 'temp', mode: 'hard' });
  await snapshotIsGone(s);
  await contentsOfFinal(s);
});

ours('DS-02', 'what is backed up already is not copied before writes any more', async s => {
  await wire(s);
  await backup(s);
  await s.ok('block-dirty-bitmap-clear', { node: 'temp', name: 'written' });
  await s.io('cbw', 'write -P 0x22 0 1M');
  expect((await s.bitmap('temp', 'written')).count).toBe(0);
  await snapshotIsGone(s);
  await contentsOfFinal(s);
});

ours(
  'DS-03',
  'after a failure what was given back cannot be read: the moment is not to be had again',
  async s => {
    await wire(s);
    await s.ok('blockdev-del', { 'node-name': 'final' });
    const rules = [{ event: 'none', iotype: 'write', errno: 28, sector: 1920 }];
    await s.image('plain', { format: 'raw', size: MiB });
    const plain = { driver: 'file', filename: s.path('plain') };
    await s.add({ driver: 'blkdebug', 'node-name': 'final', image: plain, 'inject-error': rules });
    const job = { 'job-id': 'push', device: 'access', target: 'final', sync: 'full', 'discard-source': true };
    await s.ok('blockdev-backup', { ...job, 'x-perf': { 'max-workers': 1, 'max-chunk': 65536 } });
    const { data } = await s.event('BLOCK_JOB_COMPLETED', { device: 'push' });
    expect(data).toHaveProperty('error');
    await s.jobState('push', 'null');
    await snapshotIsGone(s);
    await s.ok('block-export-add', { type: 'nbd', id: 'rest', 'node-name': 'access', name: 'rest' });
    expect(await s.readExport('rest', 'read -P 0x11 960k 64k')).not.toContain('failed');
  },
);
