// What a backup is refused for, in words and in which order, with nothing left behind. Section 5.
import { expect } from 'vitest';
import { allJobsGone, newDisk, startBackup } from '../backup-chain.ts';
import { lookAt } from '../job-watch.ts';
import { different, ours, scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const SYNCS = ['incremental', 'bitmap', 'full', 'top', 'none'] as const;
const MODES = [undefined, 'on-success', 'always', 'never'] as const;
const BITMAPS = [undefined, 'b', 'bitmap404'] as const;

const given = (args: Record<string, unknown>) =>
  Object.fromEntries(Object.entries(args).filter(([, value]) => value !== undefined));

/** Which of 5.1 may start. */
function isFine(sync: string, bitmap: string | undefined, mode: string | undefined): boolean {
  if (bitmap === 'bitmap404') return false;
  if (bitmap === undefined) return mode === undefined && !['incremental', 'bitmap'].includes(sync);
  if (sync === 'incremental') return mode === undefined || mode === 'on-success';
  if (sync === 'bitmap') return mode !== undefined;
  return sync !== 'none' && (mode === 'on-success' || mode === 'always');
}

async function disks(s: Session): Promise<void> {
  await newDisk(s, 'disk', { size: '4M' });
  await newDisk(s, 'target', { size: '4M' });
  await s.ok('block-dirty-bitmap-add', { node: 'disk', name: 'b' });
}

const BASE = { 'job-id': 'job0', device: 'disk', target: 'target', sync: 'full' };

async function refused(s: Session, args: Record<string, unknown>): Promise<string> {
  const { desc } = await s.refused('blockdev-backup', given({ ...BASE, ...args }));
  expect(await s.ask('query-jobs')).toEqual([]);
  return desc;
}

for (const sync of SYNCS) {
  scenario(`BK-5.1 ${sync}`, `sync ${sync} with each bitmap and bitmap mode`, async s => {
    await disks(s);
    for (const bitmap of BITMAPS) {
      for (const mode of MODES) {
        const args = given({ ...BASE, sync, bitmap, 'bitmap-mode': mode });
        if (!isFine(sync, bitmap, mode)) {
          await s.refused('blockdev-backup', args);
          expect(await s.ask('query-jobs')).toEqual([]);
          continue;
        }
        await s.ok('blockdev-backup', args);
        if (sync === 'none') await s.ok('job-cancel', { id: 'job0' });
        await allJobsGone(s);
      }
    }
    expect(await s.bitmap('disk', 'b')).toMatchObject({ busy: false });
  });
}

scenario('BK-V1', 'unknown source, target or both; source as target', async s => {
  await disks(s);
  await refused(s, { device: 'nosource' });
  await refused(s, { target: 'notarget' });
  expect(await refused(s, { device: 'nosource', target: 'notarget' })).toContain('nosource');
  expect(await refused(s, { target: 'disk' })).toBe('Source and target cannot be the same');
});

scenario('BK-V2', 'a target of half or double the size', async s => {
  await disks(s);
  for (const size of ['2M', '8M']) {
    await newDisk(s, `of${size}`, { size });
    expect(await refused(s, { target: `of${size}` })).toBe('Source and target image have different sizes');
  }
});

scenario('BK-V3', 'speeds, at the start and in between', async s => {
  await disks(s);
  const text = "Parameter 'speed' expects a non-negative value";
  expect(await refused(s, { speed: -1 })).toBe(text);
  await s.io('disk', 'write -P 1 0 4M');
  await s.ok('blockdev-backup', { ...BASE, sync: 'none' });
  expect((await lookAt(s, 'job0'))?.speed).toBe(0);
  await s.ok('block-job-set-speed', { device: 'job0', speed: 8 * 1024 * 1024 });
  expect((await lookAt(s, 'job0'))?.speed).toBe(8 * 1024 * 1024);
  expect((await s.refused('block-job-set-speed', { device: 'job0', speed: -1 })).desc).toBe(text);
  await s.ok('query-block-jobs');
  await s.ok('job-cancel', { id: 'job0' });
  await allJobsGone(s);
  await s.ok('blockdev-backup', { ...BASE, sync: 'none', speed: 4 * 1024 * 1024 });
  await s.ok('query-block-jobs');
  await s.ok('job-cancel', { id: 'job0' });
  await allJobsGone(s);
});

scenario('BK-V4', 'a busy bitmap in every mode; a disabled one is accepted', async s => {
  await disks(s);
  await newDisk(s, 'other', { size: '4M' });
  await s.ok('block-dirty-bitmap-disable', { node: 'disk', name: 'b' });
  await s.ok('blockdev-backup', { ...BASE, sync: 'incremental', bitmap: 'b', 'auto-finalize': false });
  await s.event('BLOCK_JOB_PENDING');
  for (const mode of ['on-success', 'always', 'never']) {
    const args = {
      ...BASE,
      'job-id': 'job1',
      target: 'other',
      sync: 'bitmap',
      bitmap: 'b',
      'bitmap-mode': mode,
    };
    await s.refused('blockdev-backup', args);
  }
  await s.bitmap('disk', 'b');
  await s.ok('job-finalize', { id: 'job0' });
  await allJobsGone(s);
  expect(await s.bitmap('disk', 'b')).toMatchObject({ busy: false, recording: false });
});

scenario('BK-V5', 'compression where the target cannot', async s => {
  await disks(s);
  await s.image('raw', { format: 'raw', size: '4M' });
  await s.add({ driver: 'raw', 'node-name': 'raw', file: { driver: 'file', filename: s.path('raw') } });
  expect(await refused(s, { target: 'raw', compress: true })).toBe(
    'Compression is not supported for this drive ',
  );
});

scenario('BK-V6', 'workers and chunks outside of what is possible', async s => {
  await disks(s);
  const workers = 'max-workers must be between 1 and 2147483647';
  for (const n of [0, -1, 5_000_000_000])
    expect(await refused(s, { 'x-perf': { 'max-workers': n } })).toBe(workers);
  expect(await refused(s, { 'x-perf': { 'max-chunk': -1 } })).toContain('zero (which means no limit)');
  expect(await refused(s, { 'x-perf': { 'max-chunk': 4096 } })).toBe(
    'Required max-chunk (4096) is less than backup cluster size (65536)',
  );
  for (const perf of [
    { 'max-workers': 1, 'max-chunk': 65_536 },
    { 'max-workers': 2_147_483_647, 'max-chunk': 0, 'use-copy-range': true },
  ]) {
    await s.ok('blockdev-backup', { ...BASE, 'x-perf': perf });
    await allJobsGone(s);
  }
});

scenario('BK-V7', 'the copy cluster is the larger one of 64 KiB and the cluster of the target', async s => {
  await disks(s);
  await newDisk(s, 'coarse', { size: '4M', create: 'cluster_size=128k' });
  await newDisk(s, 'fine', { size: '4M', create: 'cluster_size=4k' });
  expect(await refused(s, { target: 'coarse', 'x-perf': { 'max-chunk': 65_536 } })).toContain('(131072)');
  expect(await refused(s, { target: 'fine', 'x-perf': { 'max-chunk': 4096 } })).toContain('(65536)');
});

scenario(
  'BK-V9',
  'a name for the filter that is taken or no name; the filter is seen while the job lives',
  async s => {
    await disks(s);
    await refused(s, { 'filter-node-name': 'target' });
    await refused(s, { 'filter-node-name': '0bad' });
    await s.ok('blockdev-backup', { ...BASE, sync: 'none', 'filter-node-name': 'flt' });
    const names = async () =>
      (await s.ask<{ 'node-name': string; drv: string }[]>('query-named-block-nodes')).flatMap(node =>
        node.drv === 'copy-before-write' ? [node['node-name']] : [],
      );
    expect(await names()).toEqual(['flt']);
    await s.ok('job-cancel', { id: 'job0' });
    await allJobsGone(s);
    expect(await names()).toEqual([]);
  },
);

scenario('BK-V10', 'an id in use, also by a concluded job that was not dismissed', async s => {
  await disks(s);
  await newDisk(s, 'other', { size: '4M' });
  await s.ok('blockdev-backup', { ...BASE, 'auto-dismiss': false });
  await s.jobState('job0', 'concluded');
  const again = { ...BASE, target: 'other' };
  expect((await s.refused('blockdev-backup', again)).desc).toBe("Job ID 'job0' already in use");
  await s.ok('job-dismiss', { id: 'job0' });
  await s.ok('blockdev-backup', again);
  await allJobsGone(s);
});

for (const format of ['qcow2', 'raw'] as const) {
  scenario(`BK-V11 ${format}`, `sync top of a standalone ${format} image and of an overlay`, async s => {
    await s.image('base', { format, size: '4M' });
    await s.tool('qemu-io', '-f', format, '-c', 'write -q -P 1 0 1M', s.path('base'));
    await s.add({ driver: format, 'node-name': 'base', file: { driver: 'file', filename: s.path('base') } });
    await newDisk(s, 'target', { size: '4M' });
    await startBackup(s, 'base', 'target', { sync: 'top' });
    await allJobsGone(s);
    await s.ok('blockdev-del', { 'node-name': 'base' });
    await s.image('over', { format: 'qcow2', size: '4M', backing: 'base', backingFormat: format });
    await s.tool('qemu-io', '-c', 'write -q -P 2 3M 100k', s.path('over'));
    await s.add({ driver: 'qcow2', 'node-name': 'over', file: { driver: 'file', filename: s.path('over') } });
    await startBackup(s, 'over', 'target', { sync: 'top' });
    const { data } = await s.event('BLOCK_JOB_COMPLETED', { len: 131_072 });
    expect(data).toMatchObject({ len: 131_072, offset: 131_072 });
    await allJobsGone(s);
  });
}

scenario('BK-V12', 'nobody resizes or deletes source or target while a job runs', async s => {
  await disks(s);
  await s.ok('blockdev-backup', { ...BASE, sync: 'none', 'filter-node-name': 'flt' });
  for (const node of ['disk', 'target']) {
    await s.refused('block_resize', { 'node-name': node, size: 8 * 1024 * 1024 });
    await s.refused('blockdev-del', { 'node-name': node });
  }
  await s.refused('blockdev-del', { 'node-name': 'flt' });
  await s.ok('job-cancel', { id: 'job0' });
  await allJobsGone(s);
  await s.ok('block_resize', { 'node-name': 'disk', size: 8 * 1024 * 1024 });
});

scenario('BK-V13', 'a writer that would bypass the filter, before or after it', async s => {
  await s.image('disk', { format: 'qcow2', size: '4M' });
  await s.add({ driver: 'file', 'node-name': 'file', filename: s.path('disk') });
  await s.add({ driver: 'qcow2', 'node-name': 'disk', file: 'file' });
  await newDisk(s, 'target', { size: '4M' });
  // A throttle node on the disk whose own user writes: the backup of the disk would miss it only below.
  await s.ok('blockdev-backup', { ...BASE, sync: 'none', 'filter-node-name': 'flt' });
  await s.nbdSocket();
  const exported = { id: 'e', type: 'nbd', writable: true };
  await s.refused('block-export-add', { ...exported, 'node-name': 'disk' });
  await s.refused('block-export-add', { ...exported, 'node-name': 'file' });
  await s.refused('blockdev-backup', { ...BASE, 'job-id': 'job1', device: 'target', target: 'disk' });
  await s.ok('block-export-add', { ...exported, 'node-name': 'flt' });
  await s.ok('block-export-del', { id: 'e' });
  await s.event('BLOCK_EXPORT_DELETED', { id: 'e' });
  await s.ok('job-cancel', { id: 'job0' });
  await allJobsGone(s);
});

scenario('BK-V13b', 'a target that is the source of another backup, and the other way round', async s => {
  await disks(s);
  await newDisk(s, 'third', { size: '4M' });
  await s.ok('blockdev-backup', { ...BASE, sync: 'none' });
  const second = { ...BASE, 'job-id': 'job1', sync: 'none' };
  await s.refused('blockdev-backup', { ...second, device: 'third', target: 'disk' });
  await s.refused('blockdev-backup', { ...second, device: 'target', target: 'third' });
  await s.refused('blockdev-backup', { ...second, device: 'third', target: 'target' });
  await s.ok('blockdev-backup', { ...second, device: 'disk', target: 'third' });
  for (const id of ['job0', 'job1']) await s.ok('job-cancel', { id });
  await allJobsGone(s);
});

scenario('BK-V ro', 'a target that is read-only', async s => {
  await disks(s);
  await s.image('ro', { format: 'qcow2', size: '4M' });
  const file = { driver: 'file', filename: s.path('ro') };
  await s.add({ driver: 'qcow2', 'node-name': 'ro', 'read-only': true, file });
  expect(await refused(s, { target: 'ro' })).toBe('Could not create node: Block node is read-only');
  await s.ok('blockdev-backup', { ...BASE, device: 'ro' });
  await allJobsGone(s);
});

/** Each fault by what makes it; two at a time show which one is seen first. */
const FAULTS: readonly Record<string, unknown>[] = [
  { 'job-id': '0x' },
  { 'job-id': 'used' },
  { speed: -1 },
  { 'x-perf': { 'max-workers': 0 } },
  { 'x-perf': { 'max-chunk': 4096 } },
  { 'x-perf': { 'max-chunk': -1 } },
  { 'filter-node-name': 'target' },
  { 'filter-node-name': '0' },
  { target: 'disk' },
  { target: 'small' },
  { target: 'taken' },
  { target: 'raw', compress: true },
  { bitmap: 'bitmap404' },
  { 'bitmap-mode': 'never' },
  { sync: 'bitmap' },
  { sync: 'incremental', 'bitmap-mode': 'always' },
  { device: 'taken' },
  { device: 'nowhere' },
  { target: 'nowhere' },
];

scenario('BK-V15', 'of two faults always the same one is seen first', async s => {
  await disks(s);
  await newDisk(s, 'small', { size: '2M' });
  await newDisk(s, 'third', { size: '4M' });
  await newDisk(s, 'taken', { size: '4M' });
  await s.image('raw', { format: 'raw', size: '4M' });
  await s.add({ driver: 'raw', 'node-name': 'raw', file: { driver: 'file', filename: s.path('raw') } });
  await s.ok('blockdev-backup', { 'job-id': 'used', device: 'third', target: 'taken', sync: 'none' });
  for (const [index, one] of FAULTS.entries()) {
    for (const other of FAULTS.slice(index + 1)) {
      if (Object.keys(one).some(key => key in other)) continue;
      await s.refused('blockdev-backup', { ...BASE, ...one, ...other });
    }
  }
  await s.ok('job-cancel', { id: 'used' });
  await allJobsGone(s);
});

scenario('BK-V16', 'the shape of the arguments is checked before anything is looked up', async s => {
  for (const args of [
    {},
    { device: 'a' },
    { device: 'a', sync: 'full' },
    { target: 'a', sync: 'full' },
    { ...BASE, sync: 'foo' },
    { ...BASE, speed: '5' },
    { ...BASE, 'on-source-error': 'foo' },
    { ...BASE, 'on-target-error': 5 },
    { ...BASE, bitmap: 5 },
    { ...BASE, 'bitmap-mode': 'sometimes' },
    { ...BASE, compress: 'yes' },
    { ...BASE, 'auto-finalize': 'yes' },
    { ...BASE, 'auto-dismiss': 1 },
    { ...BASE, 'job-id': null },
    { ...BASE, 'x-perf': 5 },
    { ...BASE, 'x-perf': { foo: 1 } },
    { ...BASE, 'x-perf': { 'use-copy-range': 1 } },
    { ...BASE, zzz: 1 },
  ]) {
    await s.refused('blockdev-backup', args);
  }
});

different(
  'BK-V8',
  'arguments that QEMU has had since 7.2',
  '0014-backup-arguments-of-later-versions',
  async s => {
    await disks(s);
    for (const more of [{ 'discard-source': true }, { 'on-cbw-error': 'break-snapshot', 'cbw-timeout': 5 }]) {
      const reply = await s.qmp('blockdev-backup', { ...BASE, ...more });
      if (reply.error === undefined) await allJobsGone(s);
    }
  },
);

ours(
  'BK-V8o',
  'a source that cannot be written is not given back, and clusters are powers of two',
  async s => {
    await disks(s);
    await s.image('ro', { format: 'qcow2', size: '4M' });
    const file = { driver: 'file', filename: s.path('ro') };
    await s.add({ driver: 'qcow2', 'node-name': 'ro', 'read-only': true, file });
    await refused(s, { device: 'ro', 'discard-source': true });
    expect(await refused(s, { 'x-perf': { 'min-cluster-size': 100_000 } })).toContain('power of 2');
    // One unit is copied through memory as a whole: a larger one would wait for it for ever.
    expect(await refused(s, { 'x-perf': { 'min-cluster-size': 64 << 20 } })).toContain('too large');
    const perf = { 'min-cluster-size': 131_072, 'max-chunk': 65_536 };
    expect(await refused(s, { 'x-perf': perf })).toContain('(131072)');
  },
);
