// What follows from the rules of the sync matrix: errors that are ignored, disabled bitmaps, a third job, and
// the smallest disks.
import { expect } from 'vitest';
import {
  backup,
  closeDisk,
  jobEnded,
  newDisk,
  READ_FAILS_AFTER_FLUSH,
  rebase,
  reference,
  startBackup,
} from '../backup-chain.ts';
import { dirtySet } from '../bitmap-sets.ts';
import { scenario } from '../scenario.ts';

const bitmap = { node: 'disk', name: 'b' };

scenario('BS-X1', 'an error that is ignored is tried again and loses no bit', async s => {
  await newDisk(s, 'disk', { fault: READ_FAILS_AFTER_FLUSH });
  await s.io('disk', 'write -P 1 0 1M', 'write -P 2 8M 64k');
  await reference(s, 'disk', 'anchor');
  await s.ok('block-dirty-bitmap-add', bitmap);
  await s.io('disk', 'write -P 3 0 192k', 'write -P 4 16M 64k', 'flush');
  await newDisk(s, 'inc');
  const how = { sync: 'bitmap', bitmap: 'b', 'bitmap-mode': 'always' };
  await startBackup(s, 'disk', 'inc', {
    ...how,
    'on-source-error': 'ignore',
    'x-perf': { 'max-workers': 1 },
  });
  const error = await s.event('BLOCK_JOB_ERROR', { device: 'inc' });
  expect(error.data).toMatchObject({ operation: 'read', action: 'ignore' });
  const { data } = await jobEnded(s, 'inc');
  expect(data).not.toHaveProperty('error');
  await s.ok('blockdev-del', { 'node-name': 'inc' });
  expect(await s.bitmap('disk', 'b')).toMatchObject({ count: 0, busy: false });
  await rebase(s, 'inc', 'anchor');
  await closeDisk(s, 'disk');
  expect(await s.compare('inc', 'disk')).toBe(true);
});

scenario('BS-X2', 'a bitmap serves one job after the other, never two at once', async s => {
  for (const name of ['disk', 't1', 't2', 't3']) await newDisk(s, name);
  await s.io('disk', 'write -P 1 0 1M');
  await s.ok('block-dirty-bitmap-add', bitmap);
  await s.io('disk', 'write -P 2 2M 64k');
  const how = { sync: 'bitmap', bitmap: 'b', 'bitmap-mode': 'on-success' };
  await startBackup(s, 'disk', 't1', { ...how, 'auto-finalize': false });
  await s.event('BLOCK_JOB_PENDING', { id: 't1' });
  const third = { ...how, 'job-id': 't3', device: 'disk', target: 't3' };
  expect((await s.refused('blockdev-backup', third)).desc).toMatch(/currently in use by another operation/);
  await s.ok('job-finalize', { id: 't1' });
  await jobEnded(s, 't1');
  await s.io('disk', 'write -P 3 4M 64k');
  await startBackup(s, 'disk', 't2', how);
  await jobEnded(s, 't2');
  expect(await s.bitmap('disk', 'b')).toMatchObject({ count: 0, busy: false, recording: true });
});

scenario('BS-X3', 'a disabled bitmap stays disabled, through success and failure', async s => {
  await newDisk(s, 'disk');
  await s.ok('block-dirty-bitmap-add', bitmap);
  await s.io('disk', 'write -P 1 1M 64k');
  await s.ok('block-dirty-bitmap-disable', bitmap);
  await s.io('disk', 'write -P 2 2M 64k');
  const how = { sync: 'bitmap', bitmap: 'b', 'bitmap-mode': 'on-success', 'auto-finalize': false };
  for (const [target, verb, event, bits] of [
    ['t1', 'job-cancel', 'BLOCK_JOB_CANCELLED', '16'],
    ['t2', 'job-finalize', 'BLOCK_JOB_COMPLETED', ''],
  ] as const) {
    await newDisk(s, target);
    await startBackup(s, 'disk', target, how);
    await s.event('BLOCK_JOB_PENDING', { id: target });
    await s.io('disk', 'write -P 3 3M 64k');
    expect(await s.bitmap('disk', 'b')).toMatchObject({ busy: true, recording: false });
    await s.ok(verb, { id: target });
    await jobEnded(s, target, event);
    expect(await dirtySet(s, 'disk', 'b')).toBe(bits);
    expect(await s.bitmap('disk', 'b')).toMatchObject({ busy: false, recording: false });
  }
});

scenario('BS-X6', 'a last cluster that sticks out of the disk is backed up and cleared', async s => {
  await newDisk(s, 'disk', { size: '200000' });
  await s.io('disk', 'write -P 1 0 200000');
  await reference(s, 'disk', 'anchor', '200000');
  await s.ok('block-dirty-bitmap-add', bitmap);
  await s.io('disk', 'write -P 2 199999 1');
  expect(await s.bitmap('disk', 'b')).toMatchObject({ count: 65_536 });
  await newDisk(s, 'inc', { size: '200000' });
  await backup(s, 'disk', 'inc', { sync: 'incremental', bitmap: 'b' });
  expect(await s.bitmap('disk', 'b')).toMatchObject({ count: 0 });
  await rebase(s, 'inc', 'anchor');
  await closeDisk(s, 'disk');
  expect(await s.compare('inc', 'disk')).toBe(true);
});
