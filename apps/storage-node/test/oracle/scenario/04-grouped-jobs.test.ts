// Backups of several disks in one transaction: each for itself, or all together or none.
import { expect } from 'vitest';
import {
  allJobsGone,
  backup,
  backupAction,
  closeDisk,
  newDisk,
  openDisk,
  READ_FAILS_AFTER_FLUSH,
  rebase,
  reference,
} from '../backup-chain.ts';
import { endedWith, jobsAre } from '../job-watch.ts';
import { scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const GROUPED = { 'completion-mode': 'grouped' };
const W1 = ['write -P 0xab 0 512', 'write -P 0xfe 16M 256k', 'write -P 0x64 32736k 64k'];
const W1B = ['write -P 0xba 0 512', 'write -P 0xef 16M 256k', 'write -P 0x46 32736k 64k'];
/** One copy after the other, so that the first failure is the only one. */
const ONE_WORKER = { 'x-perf': { 'max-workers': 1 } };

/** Two disks with an anchor and a bitmap each; the second fails one read after a flush. */
async function twoDisks(s: Session): Promise<void> {
  await newDisk(s, 'drive0');
  await newDisk(s, 'drive1', { fault: READ_FAILS_AFTER_FLUSH });
  await s.io('drive0', 'write -P 0x41 0 512', 'write -P 0xd5 1M 32k', 'write -P 0xdc 32M 124k');
  await s.io('drive1', 'write -P 0x14 0 512', 'write -P 0x5d 1M 32k', 'write -P 0xcd 32M 124k');
  for (const [node, anchor] of [
    ['drive0', 'full0'],
    ['drive1', 'full1'],
  ] as const) {
    await newDisk(s, anchor);
    await s.ok('block-dirty-bitmap-add', { node, name: 'b' });
    await backup(s, node, anchor, { sync: 'full' });
  }
}

async function increments(s: Session, properties?: object, more: object = {}): Promise<void> {
  for (const target of ['inc0', 'inc1']) await newDisk(s, target);
  const actions = ['0', '1'].map(n =>
    backupAction(`drive${n}`, `inc${n}`, { sync: 'incremental', bitmap: 'b', ...ONE_WORKER, ...more }),
  );
  await s.ok('transaction', { actions, ...(properties && { properties }) });
}

async function incrementsGone(s: Session): Promise<void> {
  for (const target of ['inc0', 'inc1']) await s.ok('blockdev-del', { 'node-name': target });
}

const count = async (s: Session, node: string) => (await s.bitmap(node, 'b')).count;

async function expectWhole(s: Session): Promise<void> {
  for (const n of ['0', '1']) {
    await reference(s, `drive${n}`, `ref${n}`);
    await rebase(s, `inc${n}`, `full${n}`);
    await closeDisk(s, `drive${n}`);
    expect(await s.compare(`inc${n}`, `ref${n}`)).toBe(true);
    expect(await s.compare(`inc${n}`, `drive${n}`)).toBe(true);
  }
}

/** Arms the fault, and fails the second disk's job. */
async function failSecond(s: Session): Promise<void> {
  await s.io('drive1', ...W1B, 'flush');
  await increments(s, GROUPED);
  await allJobsGone(s);
  const errors = s.daemon.qmp.events.filter(({ event }) => event === 'BLOCK_JOB_ERROR');
  expect(errors.map(({ data }) => data)).toEqual([{ device: 'inc1', operation: 'read', action: 'report' }]);
  const ends = s.daemon.qmp.events.filter(({ event }) => /COMPLETED|CANCELLED/.test(event));
  expect(ends.slice(-2).map(({ event, data }) => `${event} ${data?.device} ${data?.error}`)).toEqual([
    'BLOCK_JOB_COMPLETED inc1 Input/output error',
    'BLOCK_JOB_CANCELLED inc0 undefined',
  ]);
}

scenario(
  'TX-14',
  'jobs that complete each for itself: one clears its bitmap, the other keeps it',
  async s => {
    await twoDisks(s);
    await s.io('drive0', ...W1);
    await s.io('drive1', ...W1B, 'flush');
    await increments(s);
    await allJobsGone(s);
    expect(await count(s, 'drive0')).toBe(0);
    expect(await count(s, 'drive1')).toBe(458_752);
  },
);

scenario(
  'TX-15',
  'jobs that complete together: one fails and all keep their bits; the same again works',
  async s => {
    await twoDisks(s);
    await s.io('drive0', ...W1);
    await failSecond(s);
    for (const node of ['drive0', 'drive1']) expect(await count(s, node)).toBe(458_752);
    await incrementsGone(s);
    await increments(s, GROUPED);
    await allJobsGone(s);
    for (const node of ['drive0', 'drive1']) expect(await count(s, node)).toBe(0);
    await incrementsGone(s);
    await expectWhole(s);
  },
);

scenario(
  'TX-16',
  'a member with nothing to copy, done at once, is cancelled with the one that fails',
  async s => {
    await twoDisks(s);
    await failSecond(s);
    for (const node of ['drive0', 'drive1']) {
      expect(await s.bitmap(node, 'b')).toMatchObject({
        busy: false,
        count: node === 'drive0' ? 0 : 458_752,
      });
    }
  },
);

/** Four disks with a job each in one group. */
async function fourDisks(s: Session, options: (index: number) => object): Promise<void> {
  for (let n = 0; n < 4; n++) {
    await newDisk(s, `d${n}`, { size: '4M' });
    await newDisk(s, `t${n}`, { size: '4M' });
  }
  const actions = [0, 1, 2, 3].map(n => backupAction(`d${n}`, `t${n}`, { sync: 'full', ...options(n) }));
  await s.ok('transaction', { actions, properties: GROUPED });
}

scenario('TX-17', 'one member cancelled by a user ends all', async s => {
  await fourDisks(s, n => (n % 2 === 0 ? { speed: 65_536 } : {}));
  await jobsAre(s, ['t1', 't3'], 'waiting');
  await s.ok('job-cancel', { id: 't2' });
  await allJobsGone(s);
  expect(endedWith(s, 'BLOCK_JOB_CANCELLED')).toEqual(['t3', 't2', 't1', 't0']);
});

scenario('TX-17w', 'one member cancelled that waits for the others ends all', async s => {
  await fourDisks(s, n => (n === 3 ? { speed: 65_536 } : {}));
  await jobsAre(s, ['t0', 't1', 't2'], 'waiting');
  await s.ok('job-cancel', { id: 't0' });
  await allJobsGone(s);
  expect(endedWith(s, 'BLOCK_JOB_CANCELLED')).toEqual(['t3', 't2', 't1', 't0']);
});

scenario('TX-19', 'one finalize on any member finalizes the group, where one of it wants that', async s => {
  await fourDisks(s, n => (n === 1 ? { 'auto-finalize': false } : {}));
  await jobsAre(s, ['t0', 't1', 't2', 't3'], 'pending');
  expect(s.daemon.qmp.events.filter(({ event }) => event === 'BLOCK_JOB_PENDING')).toHaveLength(1);
  await s.ok('query-jobs');
  await s.ok('job-finalize', { id: 't3' });
  await allJobsGone(s);
  expect(endedWith(s, 'BLOCK_JOB_COMPLETED')).toEqual(['t3', 't2', 't1', 't0']);
});

scenario('TX-20', 'a cancel while all are pending is a failure of all', async s => {
  for (const n of ['0', '1']) {
    await newDisk(s, `drive${n}`);
    await s.ok('block-dirty-bitmap-add', { node: `drive${n}`, name: 'b' });
    await s.io(`drive${n}`, ...W1);
  }
  await increments(s, GROUPED, { 'auto-finalize': false });
  await jobsAre(s, ['inc0', 'inc1'], 'pending');
  await s.ok('job-cancel', { id: 'inc0' });
  await allJobsGone(s);
  for (const node of ['drive0', 'drive1']) {
    expect(await s.bitmap(node, 'b')).toMatchObject({ busy: false, count: 458_752 });
  }
});

scenario('TX-20b', 'a group whose disks are opened anew can be started again under the same ids', async s => {
  await fourDisks(s, () => ({ speed: 65_536 }));
  await s.ok('job-cancel', { id: 't3' });
  await allJobsGone(s);
  for (let n = 0; n < 4; n++) await s.ok('blockdev-del', { 'node-name': `t${n}` });
  for (let n = 0; n < 4; n++) await openDisk(s, `t${n}`);
  const actions = [0, 1, 2, 3].map(n => backupAction(`d${n}`, `t${n}`, { sync: 'full' }));
  await s.ok('transaction', { actions, properties: GROUPED });
  await allJobsGone(s);
});
