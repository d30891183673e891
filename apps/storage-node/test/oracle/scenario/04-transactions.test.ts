// Transactions of bitmap actions and backups: all at one instant or nothing at all.
import { expect } from 'vitest';
import {
  ABORT,
  allJobsGone,
  backup,
  backupAction,
  bitmapAction,
  closeDisk,
  jobEnded,
  newDisk,
  rebase,
} from '../backup-chain.ts';
import { qemuDies, scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const P = ['0x5d 0', '0xd5 0x100000', '0xdc 0x2000000', '0xcd 0x3ff0000'].map(at64K);
const W = ['0xab 0', '0xad 0xf8000', '0x1d 0x2008000', '0xea 0x3fe0000'].map(at64K);
const W1 = ['write -P 0xab 0 512', 'write -P 0xfe 16M 256k', 'write -P 0x64 32736k 64k'];
const W2 = ['write -P 0x9a 0 512', 'write -P 0x55 8M 352k', 'write -P 0x78 15872k 1M'];

function at64K(patternAndOffset: string): string {
  return `write -P ${patternAndOffset} 64k`;
}

const at = (name: string, more: object = {}) => ({ node: 'disk', name, ...more });
const add = (name: string, more: object = {}) => bitmapAction('add', at(name, more));
const merge = (target: string, ...bitmaps: string[]) =>
  bitmapAction('merge', { node: 'disk', target, bitmaps });
const transaction = (s: Session, actions: object[], properties?: object) =>
  s.ok('transaction', { actions, ...(properties && { properties }) });
const refused = async (s: Session, actions: object[], properties?: object) =>
  (await s.refused('transaction', { actions, ...(properties && { properties }) })).desc;

async function counts(s: Session): Promise<Record<string, number>> {
  return Object.fromEntries((await s.bitmaps('disk')).map(({ name, count }) => [name, count]));
}

const hash = async (s: Session, name: string) =>
  (await s.ok<{ sha256: string }>('x-debug-block-dirty-bitmap-sha256', at(name))).sha256;

async function fixture(s: Session): Promise<void> {
  await newDisk(s, 'disk');
  for (const name of ['A', 'B']) await s.ok('block-dirty-bitmap-add', at(name, { granularity: 65_536 }));
  await s.io('disk', ...P);
}

scenario('TX-01', 'an aborted transaction has changed nothing', async s => {
  await fixture(s);
  const actions = [bitmapAction('disable', at('B')), add('C'), bitmapAction('clear', at('A')), ABORT];
  expect(await refused(s, actions)).toBe('Transaction aborted using Abort action');
  expect(await counts(s)).toEqual({ A: 262_144, B: 262_144 });
  expect(await s.bitmap('disk', 'B')).toMatchObject({ recording: true, busy: false });
});

scenario('TX-02', 'later actions see what earlier ones did, and windows of time unite', async s => {
  await fixture(s);
  await transaction(s, [
    bitmapAction('disable', at('B')),
    add('C'),
    bitmapAction('disable', at('C')),
    bitmapAction('enable', at('C')),
  ]);
  expect(await s.bitmap('disk', 'B')).toMatchObject({ recording: false });
  expect(await s.bitmap('disk', 'C')).toMatchObject({ recording: true, count: 0 });
  await s.io('disk', ...W);
  expect(await counts(s)).toEqual({ A: 458_752, B: 262_144, C: 393_216 });
  await transaction(s, [bitmapAction('disable', at('A')), bitmapAction('disable', at('C'))]);
  expect(await counts(s)).toEqual({ A: 458_752, B: 262_144, C: 393_216 });
  await refused(s, [add('D', { disabled: true }), merge('D', 'B', 'C'), ABORT]);
  expect(await counts(s)).toEqual({ A: 458_752, B: 262_144, C: 393_216 });
  await transaction(s, [add('D', { disabled: true }), merge('D', 'B', 'C')]);
  expect(await counts(s)).toEqual({ A: 458_752, B: 262_144, C: 393_216, D: 458_752 });
  expect(await hash(s, 'D')).toBe(await hash(s, 'A'));
  await transaction(
    s,
    ['A', 'B', 'C', 'D'].map(name => bitmapAction('remove', at(name))),
  );
  expect(await counts(s)).toEqual({});
});

scenario('TX-05', 'clear, merge and remove follow one another as they are listed', async s => {
  await fixture(s);
  await transaction(s, [add('C', { disabled: true }), merge('C', 'A'), bitmapAction('clear', at('A'))]);
  expect(await counts(s)).toEqual({ A: 0, B: 262_144, C: 262_144 });
  await transaction(s, [bitmapAction('clear', at('B')), merge('A', 'B')]);
  expect(await counts(s)).toEqual({ A: 0, B: 0, C: 262_144 });
  await transaction(s, [merge('A', 'C'), bitmapAction('remove', at('C'))]);
  expect(await counts(s)).toEqual({ A: 262_144, B: 0 });
  for (const action of [
    bitmapAction('clear', at('A')),
    bitmapAction('disable', at('A')),
    bitmapAction('remove', at('A')),
    merge('A', 'B'),
    merge('B', 'A'),
    add('A'),
  ]) {
    await refused(s, [bitmapAction('remove', at('A')), action]);
  }
  expect(await counts(s)).toEqual({ A: 262_144, B: 0 });
  expect(await s.bitmap('disk', 'A')).toMatchObject({ busy: false });
});

scenario('TX-07', 'the first fault ends it: it is named, and later actions are never looked at', async s => {
  await fixture(s);
  const clearA = bitmapAction('clear', at('A'));
  const missing = bitmapAction('clear', at('missing'));
  const nowhere = bitmapAction('clear', { node: 'nowhere', name: 'A' });
  expect(await refused(s, [clearA, missing, nowhere])).toBe("Dirty bitmap 'missing' not found");
  expect(await refused(s, [clearA, nowhere, missing])).toBe("Node 'nowhere' not found");
  expect(await refused(s, [ABORT, nowhere])).toBe('Transaction aborted using Abort action');
  expect(await refused(s, [add('C'), add('C')])).toBe('Bitmap already exists: C');
  await refused(s, [add('C', { granularity: 1 }), ABORT]);
  await refused(s, [bitmapAction('add', { node: 'nowhere', name: 'C' })]);
  await refused(s, [clearA, merge('B', 'A', 'missing')]);
  expect(await counts(s)).toEqual({ A: 262_144, B: 262_144 });
});

qemuDies('TX-07e', 'a missing bitmap that is to be enabled', '0023-answer-where-qemu-dies', async s => {
  await fixture(s);
  const enable = bitmapAction('enable', at('missing'));
  const actions = [bitmapAction('clear', at('A')), enable, bitmapAction('clear', at('B'))];
  expect(await refused(s, actions)).toBe("Dirty bitmap 'missing' not found");
  expect(await counts(s)).toEqual({ A: 262_144, B: 262_144 });
});

scenario('TX-08', 'a full backup and two cleared bitmaps anchor two chains at one instant', async s => {
  await newDisk(s, 'disk');
  await s.ok('block-dirty-bitmap-add', at('bm0'));
  await s.io('disk', ...W1);
  await s.ok('block-dirty-bitmap-add', at('bm1'));
  await s.io('disk', 'write -P 0x33 48M 1M');
  await newDisk(s, 'full');
  await transaction(s, [
    bitmapAction('clear', at('bm0')),
    bitmapAction('clear', at('bm1')),
    backupAction('disk', 'full', { sync: 'full' }),
  ]);
  await jobEnded(s, 'full');
  await s.ok('blockdev-del', { 'node-name': 'full' });
  await s.io('disk', ...W2);
  expect(await hash(s, 'bm0')).toBe(await hash(s, 'bm1'));
  for (const [bitmap, target] of [
    ['bm0', 'inc0'],
    ['bm1', 'inc1'],
  ] as const) {
    await newDisk(s, target);
    await backup(s, 'disk', target, { sync: 'incremental', bitmap });
    await rebase(s, target, 'full');
  }
  await closeDisk(s, 'disk');
  for (const target of ['inc0', 'inc1']) expect(await s.compare(target, 'disk')).toBe(true);
});

scenario('TX-09', 'no write is lost between a new bitmap and its full backup', async s => {
  for (const name of ['disk', 'full', 'inc']) await newDisk(s, name);
  await s.io('disk', ...P);
  const guest = await s.guest('disk');
  let writing = true;
  const writer = (async () => {
    for (let i = 0; writing || i < 200; i++) {
      await guest.run(`write -q -P ${(i % 254) + 1} ${((i * 7919) % 1024) * 64}k 64k`);
    }
  })();
  await transaction(s, [add('bm'), backupAction('disk', 'full', { sync: 'full' })]);
  await jobEnded(s, 'full');
  writing = false;
  await writer;
  await s.ok('blockdev-del', { 'node-name': 'full' });
  s.copiesByChance('inc');
  await s.ask('blockdev-backup', {
    'job-id': 'inc',
    device: 'disk',
    target: 'inc',
    sync: 'incremental',
    bitmap: 'bm',
  });
  await s.jobState('inc', 'null');
  await s.ok('blockdev-del', { 'node-name': 'inc' });
  await rebase(s, 'inc', 'full');
  await closeDisk(s, 'disk');
  expect(await s.compare('inc', 'disk')).toBe(true);
});

scenario('TX-11', 'grouped completion is for jobs, and what is asked for is checked', async s => {
  await fixture(s);
  for (const name of ['t1', 't2']) await newDisk(s, name);
  const grouped = { 'completion-mode': 'grouped' };
  for (const verb of ['add', 'remove', 'clear', 'disable']) {
    expect(await refused(s, [bitmapAction(verb, at('A'))], grouped)).toBe(
      `Action 'block-dirty-bitmap-${verb}' does not support Transaction property completion-mode = grouped`,
    );
  }
  await refused(s, [merge('A', 'B')], grouped);
  expect(await refused(s, [ABORT, merge('A', 'B')], grouped)).toMatch(/Abort action$/);
  await refused(s, [backupAction('disk', 't1', { sync: 'full' }), add('C')], grouped);
  await transaction(s, [add('C')], { 'completion-mode': 'individual' });
  await transaction(s, [add('D')], {});
  await transaction(s, [], grouped);
  await transaction(s, []);
  expect(await s.ok('query-jobs')).toEqual([]);
  expect(Object.keys(await counts(s))).toEqual(['A', 'B', 'C', 'D']);
});

qemuDies('TX-11e', 'an enable action in a grouped transaction', '0023-answer-where-qemu-dies', async s => {
  await fixture(s);
  const text = await refused(s, [bitmapAction('enable', at('A'))], { 'completion-mode': 'grouped' });
  expect(text).toMatch(/^Action 'block-dirty-bitmap-enable' does not support/);
});

scenario('TX-11a', 'the shape of actions and properties is checked before anything is done', async s => {
  await fixture(s);
  const good = bitmapAction('clear', at('A'));
  for (const bad of [
    1,
    null,
    {},
    { type: 1 },
    { type: null },
    { type: 'no-such-action', data: {} },
    { type: 'abort' },
    { type: 'abort', data: { x: 1 } },
    { type: 'abort', data: {}, x: 1 },
    { type: 'block-dirty-bitmap-add' },
    bitmapAction('add', {}),
    bitmapAction('add', { node: 'disk', name: 1 }),
    add('C', { granularity: -1 }),
    merge('A', 1 as never),
    bitmapAction('merge', { node: 'disk', target: 'A', bitmaps: [{ node: 'disk' }] }),
    backupAction('disk', 't', { sync: 'sometimes' }),
    backupAction('disk', 't', {}),
  ]) {
    await s.refused('transaction', { actions: [good, bad] });
  }
  await s.refused('transaction', {});
  await s.refused('transaction', { actions: {} });
  for (const properties of [{ 'completion-mode': 'sometimes' }, { mode: 'grouped' }, 1]) {
    await s.refused('transaction', { actions: [good], properties });
  }
  expect(await counts(s)).toEqual({ A: 262_144, B: 262_144 });
});

scenario('TX-12', 'a backup whose successor cannot be prepared leaves no job, filter or lock', async s => {
  for (const name of ['disk', 'disk2', 't1', 't2']) await newDisk(s, name);
  const first = backupAction('disk', 't1', { sync: 'full', 'filter-node-name': 'filter' });
  const noId = { type: 'blockdev-backup', data: { device: 'disk2', target: 't2', sync: 'full' } };
  expect(await refused(s, [first, noId])).toBe("Invalid job ID ''");
  expect(await s.ok('query-jobs')).toEqual([]);
  await s.io('disk', 'write -P 1 0 64k');
  await s.closeGuest('disk');
  await transaction(s, [first, backupAction('disk2', 't2', { sync: 'full', 'filter-node-name': 'filter2' })]);
  await allJobsGone(s);
});

scenario('TX-13', 'a transaction of bogus backups ends in an error and without jobs', async s => {
  for (const name of ['disk', 't']) await newDisk(s, name);
  for (const [device, target] of [
    ['nowhere', 't'],
    ['disk', 'nowhere'],
    ['nowhere', 'neither'],
    ['disk', 'disk'],
  ] as const) {
    const action = { ...backupAction(device, target, { sync: 'full' }) };
    Object.assign(action.data, { 'job-id': 'job' });
    await refused(s, [action, ABORT]);
    await refused(s, [action]);
  }
  expect(await s.ok('query-jobs')).toEqual([]);
});

scenario('TX-13b', 'a bitmap that a prepared backup holds is free again after the abort', async s => {
  await fixture(s);
  await newDisk(s, 't');
  const held = backupAction('disk', 't', { sync: 'bitmap', bitmap: 'A', 'bitmap-mode': 'never' });
  expect(await refused(s, [held, bitmapAction('clear', at('A'))])).toMatch(/currently in use/);
  expect(await refused(s, [held, ABORT])).toMatch(/Abort action$/);
  expect(await refused(s, [bitmapAction('remove', at('A')), held])).toMatch(/currently in use/);
  const own = backupAction('disk', 't', { sync: 'bitmap', bitmap: 'new', 'bitmap-mode': 'never' });
  expect(await refused(s, [add('new'), own, ABORT])).toMatch(/Abort action$/);
  expect(await counts(s)).toEqual({ A: 262_144, B: 262_144 });
  await s.io('disk', ...W);
  expect(await s.bitmap('disk', 'A')).toMatchObject({ busy: false, recording: true, count: 458_752 });
  await transaction(s, [bitmapAction('disable', at('B')), add('new'), held]);
  await jobEnded(s, 't');
});

scenario('TX-21', 'one instant over three disks, and one more for their increments', async s => {
  const disks = ['d0', 'd1', 'd2'];
  for (const name of disks) {
    for (const image of [name, `full-${name}`, `inc-${name}`]) await newDisk(s, image, { size: '16M' });
    await s.io(name, 'write -P 1 0 1M', 'write -P 2 8M 128k');
  }
  await transaction(
    s,
    disks.flatMap(name => [
      bitmapAction('add', { node: name, name: 'bm' }),
      backupAction(name, `full-${name}`, { sync: 'full' }),
    ]),
  );
  await allJobsGone(s);
  for (const name of disks) {
    await s.ok('blockdev-del', { 'node-name': `full-${name}` });
    await s.io(name, 'write -P 3 512k 1M', 'write -z 8M 64k', 'write -P 4 15M 64k');
  }
  await transaction(
    s,
    disks.map(name => backupAction(name, `inc-${name}`, { sync: 'incremental', bitmap: 'bm' })),
  );
  await allJobsGone(s);
  for (const name of disks) {
    expect(await s.bitmap(name, 'bm')).toMatchObject({ count: 0, busy: false });
    await s.ok('blockdev-del', { 'node-name': `inc-${name}` });
    await rebase(s, `inc-${name}`, `full-${name}`);
    await closeDisk(s, name);
    expect(await s.compare(`inc-${name}`, name)).toBe(true);
  }
});

async function rawDisks(s: Session, ...names: string[]): Promise<void> {
  for (const name of names) {
    await s.image(name, { format: 'raw', size: '1M' });
    await s.add({ driver: 'raw', 'node-name': name, file: { driver: 'file', filename: s.path(name) } });
  }
}

const full = (id: string, device: string, target: string) => ({
  type: 'blockdev-backup',
  data: { 'job-id': id, device, target, sync: 'full' },
});

scenario('TX-J1', 'a job begins when all actions are done, those behind it too', async s => {
  await rawDisks(s, 'disk', 'target');
  await transaction(s, [full('j', 'disk', 'target'), bitmapAction('add', { node: 'target', name: 'b' })]);
  await s.jobState('j', 'null');
  expect((await s.bitmap('target', 'b')).count).toBe(1 << 20);
});

scenario('TX-J2', 'backups of one moment that exclude each other', async s => {
  await rawDisks(s, 'disk', 'one', 'two');
  expect(await refused(s, [full('j', 'disk', 'one'), full('k', 'two', 'disk')])).toContain('conflict');
  await s.ok('query-jobs');
  await s.ok('query-named-block-nodes', { flat: true });
  // By another name: the first `j` has come to its end already.
  await transaction(s, [full('l', 'disk', 'one')]);
  await s.jobState('l', 'null');
});
