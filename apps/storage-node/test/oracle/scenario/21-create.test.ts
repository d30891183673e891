// Images made by a job: files and qcow2, with every fault in QEMU's words, and what older clients see of the job.
import { expect } from 'vitest';
import { ours, scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

interface JobFacts {
  readonly id: string;
  readonly status: string;
  readonly error?: string;
}

/** How many jobs a side has had. */
const created = new WeakMap<Session, number>();

/** Returns the error, or undefined; traced, with the job as it ended. */
async function create(s: Session, options: object): Promise<string | undefined> {
  const count = (created.get(s) ?? 0) + 1;
  created.set(s, count);
  const id = `create${count}`;
  const renamed = { 'job-id': 'create', options };
  const { error } = await s.daemon.qmp.execute('blockdev-create', { 'job-id': id, options });
  if (error !== undefined) {
    s.note('blockdev-create', { ...renamed, error });
    return error.desc;
  }
  await s.jobState(id, 'concluded');
  const [job] = await s.ask<JobFacts[]>('query-jobs');
  s.note('blockdev-create', { ...renamed, job: { ...job, id: 'create' } });
  await s.ask('job-dismiss', { id });
  return job!.error;
}

async function info(s: Session, name: string): Promise<void> {
  const { stdout } = await s.peek('qemu-img', 'info', '-U', '--output=json', s.path(name));
  const { 'actual-size': _, children: __, ...facts } = JSON.parse(stdout);
  s.note(`info of ${name}`, facts);
}

scenario('BC-01', 'files are made, also anew', async s => {
  const file = { driver: 'file', filename: s.path('f') };
  expect(await create(s, { ...file, size: 4 * MiB })).toBeUndefined();
  await s.tool('stat', '-c', '%s', s.path('f'));
  await s.tool('qemu-io', '-f', 'raw', '-c', 'write -q -P 1 0 4M', s.path('f'));
  await create(s, { ...file, size: 1000 });
  await s.tool('stat', '-c', '%s', s.path('f'));
  await s.tool('cmp', '-n', '1000', s.path('f'), '/dev/zero');
  for (const preallocation of ['off', 'falloc', 'full']) {
    await create(s, { ...file, size: MiB, preallocation });
    await s.tool('stat', '-c', '%s', s.path('f'));
  }
  await create(s, { ...file, size: MiB, preallocation: 'metadata' });
  await create(s, { ...file, size: MiB, nocow: true, 'extent-size-hint': 64 * KiB });
  for (const filename of ['/nowhere/x', s.path(''), s.path('x'.repeat(300))]) {
    await create(s, { ...file, filename, size: MiB });
  }
  for (const wrong of [{}, { size: 'x' }, { size: 1, preallocation: 'x' }, { size: 1, surprise: 1 }]) {
    await create(s, { ...file, ...wrong });
  }
  await s.image('used', { format: 'raw', size: '1M' });
  await s.add({ driver: 'file', 'node-name': 'used', filename: s.path('used') });
  await s.add({ driver: 'raw', 'node-name': 'r', file: 'used' });
  await s.guest('r');
  expect(await create(s, { driver: 'file', filename: s.path('used'), size: 0 })).toMatch(/lock/);
});

scenario('BC-02', 'qcow2 images are made in block nodes', async s => {
  await s.image('f', { format: 'raw', size: '1M' });
  await s.image('b', { format: 'qcow2', size: '1M' });
  await s.add({ driver: 'file', 'node-name': 'f', filename: s.path('f') });
  const qcow2 = { driver: 'qcow2', file: 'f', size: 64 * MiB };
  for (const more of [
    {},
    { size: 0 },
    { 'cluster-size': 512 },
    { 'cluster-size': 2048 * KiB },
    { 'backing-file': s.path('b'), 'backing-fmt': 'qcow2' },
    { 'backing-file': 'nowhere', 'backing-fmt': 'raw' },
    { 'backing-file': '' },
    { 'refcount-bits': 16, 'compression-type': 'zlib', version: 'v3', preallocation: 'off' },
    { version: 'v2' },
    { 'refcount-bits': 1 },
    { 'refcount-bits': 64, 'lazy-refcounts': true },
    { 'compression-type': 'zstd' },
    { preallocation: 'metadata', size: 4 * MiB },
    { file: { driver: 'file', filename: s.path('f') } },
  ]) {
    expect(await create(s, { ...qcow2, ...more })).toBeUndefined();
    if ((more as { 'backing-file'?: string })['backing-file'] !== 'nowhere') await info(s, 'f');
    expect((await s.peek('qemu-img', 'check', '-U', '-f', 'qcow2', s.path('b'))).stderr).toBe('');
  }
  await s.add({ driver: 'qcow2', 'node-name': 'q', file: 'f' });
  await s.io('q', 'read -P 0 0 64M', 'write -P 1 1M 64k', 'read -P 1 1M 64k');
  await s.refused('blockdev-create', { 'job-id': '1bad', options: qcow2 });
  expect(await create(s, qcow2)).toMatch(/Permission conflict on node 'f'/);
});

scenario('BC-03', 'what a qcow2 image cannot be', async s => {
  await s.image('f', { format: 'raw', size: '1M' });
  await s.image('ro', { format: 'raw', size: '1M' });
  await s.add({ driver: 'file', 'node-name': 'f', filename: s.path('f') });
  await s.add({ driver: 'file', 'node-name': 'ro', filename: s.path('ro'), 'read-only': true });
  const qcow2 = { driver: 'qcow2', file: 'f', size: 64 * MiB };
  for (const wrong of [
    { size: 1000 },
    { 'cluster-size': 1000 },
    { 'cluster-size': 256 },
    { 'cluster-size': 4096 * KiB },
    { 'refcount-bits': 3 },
    { 'refcount-bits': 128 },
    { 'refcount-bits': 0 },
    { version: 'v2', 'refcount-bits': 1 },
    { version: 'v2', 'lazy-refcounts': true },
    { version: 'v2', 'compression-type': 'zstd' },
    { version: 'v4' },
    { 'backing-fmt': 'raw' },
    { 'backing-fmt': 'foo' },
    { 'data-file-raw': true },
    { preallocation: 'full', 'backing-file': 'b', 'backing-fmt': 'raw' },
    { size: 2 ** 62 },
    { size: 2 ** 50, 'cluster-size': 512 },
    { file: 'nobody' },
    { file: 'ro' },
    { file: { driver: 'file', filename: s.path('nothing') } },
    { surprise: true },
  ]) {
    expect(await create(s, { ...qcow2, ...wrong })).toBeDefined();
  }
  for (const driver of ['raw', 'throttle', 'foo']) await create(s, { driver });
  await create(s, { driver: 'raw', file: 'f' });
  await create(s, {});
});

scenario('BC-04', 'the job is there until it is dismissed, and no older command knows it', async s => {
  const options = { driver: 'file', filename: s.path('f'), size: MiB };
  await s.ok('blockdev-create', { 'job-id': 'j', options });
  await s.refused('blockdev-create', { 'job-id': 'j', options });
  await s.jobState('j', 'concluded');
  for (const verb of ['pause', 'resume', 'complete', 'cancel', 'finalize']) {
    await s.refused(`job-${verb}`, { id: 'j' });
  }
  await s.refused('block-job-dismiss', { id: 'j' });
  await s.refused('block-job-cancel', { device: 'j' });
  expect(await s.ok('query-block-jobs')).toEqual([]);
  await s.ok('query-jobs');
  await s.ok('job-dismiss', { id: 'j' });
  expect(await s.ok('query-jobs')).toEqual([]);
  expect(await s.ok('query-block')).toEqual([]);
});

ours('BC-05', 'a file that could not be made whole is gone again', async s => {
  const options = { driver: 'file', filename: s.path('f'), size: MiB, preallocation: 'metadata' };
  await s.ok('blockdev-create', { 'job-id': 'j', options });
  await s.jobState('j', 'concluded');
  await s.tool('ls', s.path('f')).then(({ code }) => expect(code).not.toBe(0));
});
