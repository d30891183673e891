// The sync matrix of a backup with a bitmap: what each sync and bitmap mode leaves in the bitmap after
// success, after a cancel at the last moment and after a failure half way, to the bit, and that the chain of
// backups is the disk. All 21 rows of section 6.
import { expect } from 'vitest';
import { closeDisk, newDisk, rebase, reference } from '../backup-chain.ts';
import { dirtySet } from '../bitmap-sets.ts';
import { scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const CLUSTER = 65_536;

type Failure = 'none' | 'simulated' | 'intermediate';

interface Row {
  sync: 'bitmap' | 'full' | 'top';
  mode: 'never' | 'on-success' | 'always';
  failure: Failure;
  /** Bytes. */
  length1: number;
  after1: string;
  afterG3: string;
  /** Bytes. */
  length2: number;
  atEnd: string;
}

/** Write groups as qemu-io takes them. */
const GROUPS: readonly (readonly string[])[] = [
  ['0x49 0', '0x6c 0x100000', '0x6f 0x2000000', '0x76 0x3ff0000'].map(at64K),
  ['0x65 0', '0x77 0xf8000', '0x72 0x2008000', '0x69 0x3fe0000'].map(at64K),
  [...['0x74 0x10000', '0x69 0xe8000', '0x6e 0x2018000'].map(at64K), 'write -P 0x67 0x3fe0000 128k'],
  ['write -P 0xaa 0x10000 192k', ...['0xbb 0xd8000', '0xcc 0x2028000', '0xdd 0x3fc0000'].map(at64K)],
];

function at64K(patternAndOffset: string): string {
  return `write -P ${patternAndOffset} 64k`;
}

const G1 = '0 15-16 512-513 1022';
const G1_G2 = '0-1 14-16 512-514 1022-1023';
const G2 = '1 14-15 513-514 1022-1023';
const C15 = '0-3 13-16 512-515 1020 1022-1023';
const C14 = '0-3 13-16 512-515 1020 1022';
const C12 = '1-3 13-15 513-515 1020 1022-1023';

/** What the bitmap holds after job 1 and after G3, by name of the outcome. */
const KEPT = { after1: G1_G2, afterG3: C15, length2: 983_040 };
const FAILED = { after1: G1, afterG3: C14, length2: 917_504 };
const HANDED_ON = { after1: G2, afterG3: C12, length2: 786_432 };
const COPIED_ONE = {
  bitmap: { after1: '15-16 512-513 1022', afterG3: '1-3 13-16 512-515 1020 1022', length2: 851_968 },
  full: { after1: '15-1023', afterG3: '1-3 13-1023', length2: 66_453_504 },
  top: { after1: '15-16 512-513 1022-1023', afterG3: '1-3 13-16 512-515 1020 1022-1023', length2: 917_504 },
};

const LENGTH1 = { bitmap: 393_216, full: 67_108_864, top: 458_752 };
const FAILED_AT = { bitmap: 65_536, full: 983_040, top: 65_536 };

function rows(): Row[] {
  const all: Row[] = [];
  for (const sync of ['bitmap', 'full', 'top'] as const) {
    for (const mode of ['never', 'on-success', 'always'] as const) {
      if (mode === 'never' && sync !== 'bitmap') continue;
      for (const failure of ['simulated', 'intermediate', 'none'] as const) {
        all.push({ sync, mode, failure, length1: LENGTH1[sync], ...outcome(sync, mode, failure) });
      }
    }
  }
  return all;
}

function outcome(sync: Row['sync'], mode: Row['mode'], failure: Failure) {
  if (mode === 'never') {
    const found = failure === 'intermediate' ? FAILED : KEPT;
    return { ...found, atEnd: found.afterG3 };
  }
  if (mode === 'always') return { ...(failure === 'intermediate' ? COPIED_ONE[sync] : HANDED_ON), atEnd: '' };
  return { ...{ simulated: KEPT, intermediate: FAILED, none: HANDED_ON }[failure], atEnd: '' };
}

/** Armed by a flush: the second read of data after it fails, once. */
const SECOND_READ_FAILS = {
  'set-state': [
    { event: 'flush_to_disk', state: 1, new_state: 2 },
    { event: 'read_aio', state: 2, new_state: 3 },
  ],
  'inject-error': [{ event: 'read_aio', errno: 5, state: 3, immediately: false, once: true }],
};

async function startJob(s: Session, id: string, target: string, row: Pick<Row, 'sync' | 'mode'>) {
  await s.ok('blockdev-backup', {
    'job-id': id,
    device: 'disk',
    target,
    sync: row.sync,
    bitmap: 'bitmap0',
    'bitmap-mode': row.mode,
    'auto-finalize': false,
    'filter-node-name': 'backup-top',
    'x-perf': { 'max-workers': 1 },
  });
}

async function endFirstJob(s: Session, row: Row): Promise<void> {
  if (row.failure === 'intermediate') {
    const error = await s.event('BLOCK_JOB_ERROR', { device: 'job1' });
    expect(error.data).toMatchObject({ operation: 'read', action: 'report' });
    const { data } = await s.event('BLOCK_JOB_COMPLETED', { device: 'job1' });
    expect(data).toMatchObject({ error: 'Input/output error', offset: FAILED_AT[row.sync] });
    return;
  }
  await s.event('BLOCK_JOB_PENDING', { id: 'job1' });
  await s.io('disk', ...GROUPS[2]!);
  const bitmaps = await s.bitmaps('disk');
  const frozen = bitmaps.find(bitmap => bitmap.name === 'bitmap0');
  expect(frozen).toMatchObject({ count: 6 * CLUSTER, busy: true, recording: true });
  const successor = bitmaps.find(bitmap => bitmap.name === undefined && bitmap.recording);
  expect(successor).toMatchObject({ count: 7 * CLUSTER, busy: false });
  const [verb, event] =
    row.failure === 'none' ? ['job-finalize', 'BLOCK_JOB_COMPLETED'] : ['job-cancel', 'BLOCK_JOB_CANCELLED'];
  await s.ok(verb!, { id: 'job1' });
  const { data } = await s.event(event!, { device: 'job1' });
  expect(data).toMatchObject({ len: row.length1, offset: row.length1 });
}

async function expectBits(s: Session, expected: string): Promise<void> {
  expect(await dirtySet(s, 'disk', 'bitmap0')).toBe(expected);
  expect(await s.bitmap('disk', 'bitmap0')).toMatchObject({ busy: false, recording: true });
}

async function compareImages(s: Session, { mode, failure }: Row): Promise<void> {
  await closeDisk(s, 'disk');
  for (const name of ['t1', 't2']) await s.ok('blockdev-del', { 'node-name': name });
  await rebase(s, 't1', 'r0');
  expect(await s.compare('t1', 'r1')).toBe(failure !== 'intermediate');
  const firstKept = failure === 'none' || mode === 'always';
  if (firstKept) {
    await rebase(s, 't2', 't1');
    expect(await s.compare('t2', 'r2')).toBe(true);
  }
  if (!firstKept || mode === 'never') {
    await rebase(s, 't2', 'r0');
    expect(await s.compare('t2', 'r2')).toBe(true);
  }
  expect(await s.compare('disk', 'r2')).toBe(true);
}

async function play(s: Session, row: Row): Promise<void> {
  const faulty = row.failure === 'intermediate';
  await newDisk(s, 'disk', faulty ? { fault: SECOND_READ_FAILS } : {});
  for (const target of ['t1', 't2']) await newDisk(s, target);
  await s.io('disk', ...GROUPS[0]!);
  await reference(s, 'disk', 'r0');
  await s.ok('block-dirty-bitmap-add', { node: 'disk', name: 'bitmap0', granularity: CLUSTER });
  await s.io('disk', ...GROUPS[1]!);
  await expectBits(s, G1);
  await reference(s, 'disk', 'r1');
  if (faulty) await s.io('disk', 'flush');
  await startJob(s, 'job1', 't1', row);
  await endFirstJob(s, row);
  await s.jobState('job1', 'null');
  await expectBits(s, row.after1);
  await s.io('disk', ...GROUPS[3]!);
  await expectBits(s, row.afterG3);
  await reference(s, 'disk', 'r2');
  await startJob(s, 'job2', 't2', { ...row, sync: 'bitmap' });
  await s.event('BLOCK_JOB_PENDING', { id: 'job2' });
  await s.ok('job-finalize', { id: 'job2' });
  const { data } = await s.event('BLOCK_JOB_COMPLETED', { device: 'job2' });
  expect(data).toMatchObject({ len: row.length2, offset: row.length2 });
  await s.jobState('job2', 'null');
  await expectBits(s, row.atEnd);
  await s.ok('block-dirty-bitmap-remove', { node: 'disk', name: 'bitmap0' });
  await compareImages(s, row);
}

for (const [index, row] of rows().entries()) {
  const id = `BS-${String(index + 1).padStart(2, '0')}`;
  scenario(id, `sync ${row.sync}, mode ${row.mode}, failure ${row.failure}`, s => play(s, row));
}
