// Image fleecing in its wirings: readers see the disk as of one moment while the guest overwrites it.
import { expect } from 'vitest';
import { type Play, scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const SIZE = 64 << 20;

/** Byte, offset, length. */
type Pattern = readonly [string, string, string];
const patterns: readonly Pattern[] = [
  ['0x5d', '0', '64k'],
  ['0xd5', '1M', '64k'],
  ['0xdc', '32M', '64k'],
  ['0xcd', '0x3ff0000', '64k'],
];
const overwrites: readonly Pattern[] = [
  ['0xab', '0', '64k'],
  ['0xad', '0xf8000', '64k'],
  ['0x1d', '0x2008000', '64k'],
  ['0xea', '0x3fe0000', '64k'],
];
const zeroes: readonly Pattern[] = [
  ['0', '0xf8000', '32k'],
  ['0', '0x2010000', '32k'],
  ['0', '0x3fe0000', '64k'],
];
const remainders: readonly Pattern[] = [
  ['0xd5', '0x108000', '32k'],
  ['0xdc', '32M', '32k'],
  ['0xcd', '0x3ff0000', '64k'],
];

const command =
  (verb: string) =>
  ([byte, offset, length]: Pattern) =>
    `${verb} -P ${byte} ${offset} ${length}`;

interface Fleecing {
  /** The block node that guests write to, and the export that readers read. */
  readonly guest: string;
  readonly snapshot: string;
  readonly restricted?: boolean;
  /** Takes everything away; the guest is gone by then. */
  tearDown(s: Session): Promise<void>;
}

async function makeDisk(s: Session): Promise<void> {
  await s.image('disk', { format: 'qcow2', size: SIZE });
  await s.add({ driver: 'qcow2', 'node-name': 'disk', file: { driver: 'file', filename: s.path('disk') } });
}

interface Preparation {
  before?(s: Session): Promise<void>;
  /** The guest is there all the time. */
  readonly guestStays?: boolean;
}

function fleecing(build: (s: Session) => Promise<Fleecing>, preparation: Preparation = {}): Play {
  return async s => {
    await makeDisk(s);
    await preparation.before?.(s);
    await s.io('disk', ...patterns.map(command('write')));
    if (!preparation.guestStays) await s.closeGuest('disk');
    const { guest, snapshot, restricted, tearDown } = await build(s);
    const readAll = async () => {
      expect(await s.readExport(snapshot, ...patterns.map(command('read')))).not.toContain('failed');
      const rest = await s.readExport(snapshot, ...zeroes.map(command('read')));
      if (restricted) expect(rest.match(/Invalid argument/g)).toHaveLength(zeroes.length);
      else expect(rest).not.toContain('failed');
    };
    await readAll();
    await s.io(guest, ...overwrites.map(command('write')));
    await readAll();
    await s.closeGuest(guest);
    await tearDown(s);
    const live = await s.io('disk', ...[...overwrites, ...remainders].map(command('read')));
    expect(live).not.toContain('failed');
    await s.closeGuest('disk');
    await s.ok('blockdev-del', { 'node-name': 'disk' });
  };
}

async function addTemp(s: Session, format: 'raw' | 'qcow2', backing?: string): Promise<void> {
  await s.image('temp', { format, size: SIZE });
  const file = { driver: 'file', filename: s.path('temp') };
  await s.add({ driver: format, 'node-name': 'temp', file, ...(backing && { backing }) });
}

async function exportNode(s: Session, node: string): Promise<void> {
  await s.nbdSocket();
  await s.ok('block-export-add', { type: 'nbd', id: 'snapshot', 'node-name': node, name: 'snapshot' });
}

async function removeExport(s: Session): Promise<void> {
  await s.ok('block-export-del', { id: 'snapshot' });
  await s.event('BLOCK_EXPORT_DELETED', { id: 'snapshot' });
}

scenario(
  'FL-01',
  'a backup of sync none to an overlay of the disk',
  fleecing(
    async s => {
      await addTemp(s, 'qcow2', 'disk');
      await s.ok('blockdev-backup', { 'job-id': 'fleece', device: 'disk', target: 'temp', sync: 'none' });
      await exportNode(s, 'temp');
      return {
        guest: 'disk',
        snapshot: 'snapshot',
        async tearDown() {
          await removeExport(s);
          await s.ok('block-job-cancel', { device: 'fleece' });
          const { data } = await s.event('BLOCK_JOB_CANCELLED', { device: 'fleece' });
          expect(data).toMatchObject({ offset: 393216, len: 67108864 });
          await s.jobState('fleece', 'null');
          await s.ok('blockdev-del', { 'node-name': 'temp' });
        },
      };
    },
    { guestStays: true },
  ),
);

scenario(
  'FL-02',
  'a filter above the disk, with an overlay of the disk as target',
  fleecing(async s => {
    await addTemp(s, 'qcow2', 'disk');
    await s.add({ driver: 'copy-before-write', 'node-name': 'cbw', file: 'disk', target: 'temp' });
    await exportNode(s, 'temp');
    return {
      guest: 'cbw',
      snapshot: 'snapshot',
      async tearDown() {
        await removeExport(s);
        await s.ok('blockdev-del', { 'node-name': 'cbw' });
        await s.ok('blockdev-del', { 'node-name': 'temp' });
      },
    };
  }),
);

function snapshotAccess(filter: object, restricted: boolean) {
  return async (s: Session): Promise<Fleecing> => {
    await addTemp(s, 'raw');
    await s.add({ driver: 'copy-before-write', 'node-name': 'cbw', file: 'disk', target: 'temp', ...filter });
    await s.add({ driver: 'snapshot-access', 'node-name': 'access', file: 'cbw' });
    await exportNode(s, 'access');
    return {
      guest: 'cbw',
      snapshot: 'snapshot',
      restricted,
      async tearDown() {
        await s.refused('blockdev-del', { 'node-name': 'cbw' });
        await s.refused('blockdev-del', { 'node-name': 'access' });
        await removeExport(s);
        await s.ok('blockdev-del', { 'node-name': 'access' });
        await s.ok('blockdev-del', { 'node-name': 'cbw' });
        await s.ok('blockdev-del', { 'node-name': 'temp' });
      },
    };
  };
}

scenario('FL-03', 'a snapshot-access node above the filter', fleecing(snapshotAccess({}, false)));

scenario(
  'FL-04',
  'outside of the bitmap that the filter was given reads are denied',
  fleecing(snapshotAccess({ bitmap: { node: 'disk', name: 'changed' } }, true), {
    async before(s) {
      await s.ok('block-dirty-bitmap-add', { node: 'disk', name: 'changed' });
    },
  }),
);

scenario('FL-05', 'a backup from the frozen moment to a final target', async s => {
  await makeDisk(s);
  await s.io('disk', ...patterns.map(command('write')));
  await s.closeGuest('disk');
  await addTemp(s, 'raw');
  await s.add({ driver: 'copy-before-write', 'node-name': 'cbw', file: 'disk', target: 'temp' });
  await s.add({ driver: 'snapshot-access', 'node-name': 'access', file: 'cbw' });
  await s.image('final', { format: 'qcow2', size: SIZE });
  await s.add({ driver: 'qcow2', 'node-name': 'final', file: { driver: 'file', filename: s.path('final') } });
  await s.ok('blockdev-backup', {
    'job-id': 'push',
    device: 'access',
    target: 'final',
    sync: 'full',
    speed: 1,
  });
  await s.io('cbw', ...overwrites.map(command('write')));
  const jobs = await s.ask<{ id: string }[]>('query-jobs');
  expect(jobs.map(({ id }) => id)).toEqual(['push']);
  await s.ok('block-job-set-speed', { device: 'push', speed: 0 });
  const { data } = await s.event('BLOCK_JOB_COMPLETED', { device: 'push' });
  expect(data).toMatchObject({ len: SIZE, offset: SIZE });
  await s.jobState('push', 'null');
  await s.closeGuest('cbw');
  for (const node of ['access', 'cbw', 'temp', 'final']) await s.ok('blockdev-del', { 'node-name': node });
  const live = await s.io('disk', ...[...overwrites, ...remainders].map(command('read')));
  expect(live).not.toContain('failed');
  await s.closeGuest('disk');
  await s.add({ driver: 'qcow2', 'node-name': 'final', file: { driver: 'file', filename: s.path('final') } });
  expect(await s.io('final', ...[...patterns, ...zeroes].map(command('read')))).not.toContain('failed');
});
