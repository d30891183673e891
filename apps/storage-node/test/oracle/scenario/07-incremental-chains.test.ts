// Incremental chains as an operator builds them: every image of a chain is the disk of its moment, through
// other granularities and cluster sizes, growth, failure, retry, and a stop with a resume.
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
import { scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

const F124 = ['write -P 0x41 0 512', 'write -P 0xd5 1M 32k', 'write -P 0xdc 32M 124k'];
const W1 = ['write -P 0xab 0 512', 'write -P 0xfe 16M 256k', 'write -P 0x64 32736k 64k', 'flush'];
const W2 = ['write -P 0x9a 0 512', 'write -P 0x55 8M 352k', 'write -P 0x78 15872k 1M', 'flush'];
/** Of W1, with 64 KiB a bit. */
const W1_BYTES = 458_752;

const INCREMENTAL = { sync: 'incremental', bitmap: 'bitmap0' };

async function addBitmap(s: Session, granularity?: number): Promise<void> {
  const more = granularity === undefined ? {} : { granularity };
  await s.ok('block-dirty-bitmap-add', { node: 'disk', name: 'bitmap0', ...more });
}

/** The anchor: a full backup as the image `anchor`. */
async function anchored(s: Session, options: { fault?: object } = {}): Promise<void> {
  await newDisk(s, 'disk', options);
  await s.io('disk', ...F124);
  await newDisk(s, 'anchor');
  await backup(s, 'disk', 'anchor', { sync: 'full' });
}

/** An increment into a new image on top of `parent`. */
async function increment(s: Session, name: string, parent: string): Promise<number> {
  await newDisk(s, name, { backing: parent });
  const { data } = await backup(s, 'disk', name, INCREMENTAL);
  expect(data).not.toHaveProperty('error');
  expect(data?.offset).toBe(data?.len);
  return Number(data?.len);
}

async function simpleChain(s: Session, granularity?: number): Promise<void> {
  await anchored(s);
  await addBitmap(s, granularity);
  expect(await increment(s, 'inc0', 'anchor')).toBe(0);
  await reference(s, 'disk', 'ref0');
  await s.io('disk', ...W1);
  await s.bitmaps('disk');
  await increment(s, 'inc1', 'inc0');
  await reference(s, 'disk', 'ref1');
  await s.io('disk', ...W2);
  await s.bitmaps('disk');
  await increment(s, 'inc2', 'inc1');
  await reference(s, 'disk', 'ref2');
  expect(await s.bitmap('disk', 'bitmap0')).toMatchObject({ count: 0, busy: false, recording: true });
  await closeDisk(s, 'disk');
  for (const n of [0, 1, 2]) expect(await s.compare(`inc${n}`, `ref${n}`)).toBe(true);
  expect(await s.compare('inc2', 'disk')).toBe(true);
  expect(await s.compare('inc1', 'disk')).toBe(false);
}

scenario('IN-01', 'a chain of increments, the first one hollow', s => simpleChain(s));
scenario('IN-02', 'a chain with 32 KiB a bit', s => simpleChain(s, 32 * KiB));
scenario('IN-03', 'a chain with 128 KiB a bit', s => simpleChain(s, 128 * KiB));

scenario('IN-04', 'a target of larger clusters than the bitmap gets whole clusters', async s => {
  await newDisk(s, 'disk');
  await s.io('disk', ...F124);
  await newDisk(s, 'anchor', { create: 'cluster_size=128k' });
  await backup(s, 'disk', 'anchor', { sync: 'full' });
  await addBitmap(s, 64 * KiB);
  await s.io('disk', ...W1);
  const facts = { count: W1_BYTES, granularity: 64 * KiB, persistent: false };
  expect(await s.bitmap('disk', 'bitmap0')).toMatchObject(facts);
  await newDisk(s, 'inc0', { create: 'cluster_size=128k' });
  await backup(s, 'disk', 'inc0', INCREMENTAL);
  await rebase(s, 'inc0', 'anchor');
  await reference(s, 'disk', 'ref0');
  await closeDisk(s, 'disk');
  expect(await s.compare('inc0', 'ref0')).toBe(true);
  expect(await s.compare('inc0', 'disk')).toBe(true);
});

scenario('IN-07', 'without a bitmap, or with an unknown one, there is no increment', async s => {
  await anchored(s);
  await newDisk(s, 'inc0', { backing: 'anchor' });
  const start = { 'job-id': 'j', device: 'disk', target: 'inc0', sync: 'incremental' };
  await s.refused('blockdev-backup', start);
  await s.refused('blockdev-backup', { ...start, bitmap: 'unknown' });
  await s.refused('block-dirty-bitmap-add', { node: 'disk', name: 'bitmap0', granularity: 64_000 });
  expect(await s.ok('query-jobs')).toEqual([]);
  expect(await s.bitmaps('disk')).toEqual([]);
});

scenario('IN-08', 'a disk that grew is backed up with what was written beyond its old end', async s => {
  await anchored(s);
  await addBitmap(s);
  await s.closeGuest('disk');
  await s.ok('block_resize', { 'node-name': 'disk', size: 65 * MiB });
  await s.io('disk', 'write -P 0xcd 64M 64k');
  expect(await s.bitmap('disk', 'bitmap0')).toMatchObject({ count: 64 * KiB });
  await newDisk(s, 'inc0', { size: '65M', backing: 'anchor' });
  await backup(s, 'disk', 'inc0', INCREMENTAL);
  await closeDisk(s, 'disk');
  expect(await s.compare('inc0', 'disk')).toBe(true);
});

scenario('IN-09', 'an increment that fails keeps its bits, and the next one has them', async s => {
  await anchored(s, { fault: READ_FAILS_AFTER_FLUSH });
  await addBitmap(s);
  await s.io('disk', ...W1);
  await newDisk(s, 'failed', { backing: 'anchor' });
  await startBackup(s, 'disk', 'failed', INCREMENTAL);
  const error = await s.event('BLOCK_JOB_ERROR', { device: 'failed' });
  expect(error.data).toMatchObject({ operation: 'read', action: 'report' });
  const { data } = await jobEnded(s, 'failed');
  expect(data).toMatchObject({ error: 'Input/output error' });
  await s.ok('blockdev-del', { 'node-name': 'failed' });
  expect(await s.bitmap('disk', 'bitmap0')).toMatchObject({ count: W1_BYTES, busy: false, recording: true });
  await s.io('disk', ...W2);
  await increment(s, 'inc0', 'anchor');
  await reference(s, 'disk', 'ref0');
  await closeDisk(s, 'disk');
  expect(await s.compare('inc0', 'ref0')).toBe(true);
  expect(await s.compare('inc0', 'disk')).toBe(true);
});

scenario('IN-10', 'an increment that stops at an error goes on when it is resumed', async s => {
  await anchored(s, { fault: READ_FAILS_AFTER_FLUSH });
  await addBitmap(s);
  await s.io('disk', ...W1);
  const held = { count: W1_BYTES, recording: true };
  expect(await s.bitmap('disk', 'bitmap0')).toMatchObject({ ...held, busy: false });
  await newDisk(s, 'inc0', { backing: 'anchor' });
  await startBackup(s, 'disk', 'inc0', { ...INCREMENTAL, 'on-source-error': 'stop' });
  const error = await s.event('BLOCK_JOB_ERROR', { device: 'inc0' });
  expect(error.data).toMatchObject({ operation: 'read', action: 'stop' });
  await s.jobState('inc0', 'paused');
  expect(await s.bitmap('disk', 'bitmap0')).toMatchObject({ ...held, busy: true });
  await s.ok('block-job-resume', { device: 'inc0' });
  const { data } = await jobEnded(s, 'inc0');
  expect(data).not.toHaveProperty('error');
  expect(await s.bitmap('disk', 'bitmap0')).toMatchObject({ count: 0, busy: false, recording: true });
  await s.ok('blockdev-del', { 'node-name': 'inc0' });
  await closeDisk(s, 'disk');
  expect(await s.compare('inc0', 'disk')).toBe(true);
});

scenario('IN-11', 'differential backups each stand on the anchor alone', async s => {
  await anchored(s);
  await addBitmap(s);
  for (const [name, writes] of [
    ['day1', W1],
    ['day2', W2],
  ] as const) {
    await s.io('disk', ...writes);
    await newDisk(s, name, { backing: 'anchor' });
    await backup(s, 'disk', name, { sync: 'bitmap', bitmap: 'bitmap0', 'bitmap-mode': 'never' });
    await s.bitmaps('disk');
    await reference(s, 'disk', `ref-${name}`);
  }
  await closeDisk(s, 'disk');
  for (const name of ['day1', 'day2']) expect(await s.compare(name, `ref-${name}`)).toBe(true);
});
