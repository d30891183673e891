// Mirroring a disk in use to a target: what is copied, how it is kept equal, how it ends, and what is refused.
import { expect } from 'vitest';
import { newDisk, openDisk } from '../backup-chain.ts';
import {
  checkFiles,
  closeNodes,
  F040,
  F040_CONTENTS,
  jobReady,
  lookAtNodes,
  newChain,
  noJobs,
  startMirror,
} from '../image-chain.ts';
import { jobsAre, lookAt } from '../job-watch.ts';
import { ours, scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const MiB = 1024 * 1024;

async function twoDisks(s: Session, size = '16M', targetFault?: object): Promise<void> {
  await newDisk(s, 'source', { size });
  await newDisk(s, 'target', { size, ...(targetFault && { fault: targetFault }) });
}

/** Closes both, which nobody may use any more, and compares what they hold. */
async function expectEqual(s: Session): Promise<void> {
  await s.closeGuest('source');
  await closeNodes(s, 'source', 'target');
  expect(await s.compare('source', 'target')).toBe(true);
  await checkFiles(s, 'source', 'target');
}

scenario(
  'MI-01',
  'a full mirror is ready when all is copied; completed, the guest is on the target',
  async s => {
    await twoDisks(s);
    await s.io('source', 'write -P 1 0 4M', 'write -P 2 8M 64k', 'write -z 1M 128k');
    await startMirror(s, { 'filter-node-name': 'flt' });
    const { data } = await jobReady(s);
    expect(data).toMatchObject({ type: 'mirror', len: 16 * MiB, offset: 16 * MiB });
    await lookAtNodes(s);
    for (const name of ['source', 'target', 'flt']) await s.refused('blockdev-del', { 'node-name': name });
    for (const name of ['source', 'target', 'flt']) {
      await s.refused('block_resize', { 'node-name': name, size: 32 * MiB });
    }
    await s.io('source', 'write -P 3 3M 4k', 'write -P 4 12M 1M');
    await s.ok('job-complete', { id: 'job0' });
    await s.event('BLOCK_JOB_COMPLETED');
    await noJobs(s);
    await lookAtNodes(s);
    await s.refused('blockdev-del', { 'node-name': 'target' });
    await closeNodes(s, 'source');
    await s.io(
      'source',
      'read -P 1 0 1M',
      'read -P 0 1M 128k',
      'read -P 3 3M 4k',
      'read -P 4 12M 1M',
      'read -P 2 8M 64k',
      'write -P 5 0 64k',
    );
    await s.closeGuest('source');
    await closeNodes(s, 'target');
    await checkFiles(s, 'target');
  },
);

for (const copyMode of ['background', 'write-blocking'] as const) {
  scenario(
    `MI-02 ${copyMode}`,
    `cancelled softly, copy-mode ${copyMode}, the target is equal to the source`,
    async s => {
      await twoDisks(s);
      await s.io('source', 'write -P 1 0 4M');
      await startMirror(s, { 'copy-mode': copyMode });
      await jobReady(s);
      await s.io(
        'source',
        'write -P 6 1M 4k',
        'write -P 7 10M 200k',
        'write -z 0 64k',
        'write -z -u 128k 64k',
        'write -P 8 3585k 512',
      );
      if (copyMode === 'write-blocking') await s.ok('query-block-jobs');
      await s.ok('block-job-cancel', { device: 'job0' });
      await s.event('BLOCK_JOB_COMPLETED');
      await noJobs(s);
      await lookAtNodes(s);
      await expectEqual(s);
    },
  );

  ours(`MI-03 ${copyMode}`, `guests write all the while, copy-mode ${copyMode}`, async s => {
    await twoDisks(s, '64M');
    await s.io('source', 'write -P 1 0 64M');
    await startMirror(s, { 'copy-mode': copyMode, speed: 32 * MiB, granularity: 4096 });
    const writes: string[] = [];
    for (let i = 0; i < 120; i++)
      writes.push(`write -q -P ${(i % 200) + 2} ${(i * 7919) % 65_000}k ${(i % 40) + 1}k`);
    await s.io('source', ...writes);
    await s.ok('block-job-set-speed', { device: 'job0', speed: 0 });
    await s.event('BLOCK_JOB_READY');
    await s.io('source', ...writes.toReversed());
    await s.ok('block-job-cancel', { device: 'job0' });
    await s.event('BLOCK_JOB_COMPLETED');
    await noJobs(s);
    await expectEqual(s);
  });
}

for (const [sync, length] of [
  ['top', 65_536],
  ['none', 0],
] as const) {
  scenario(`MI-04 ${sync}`, `sync ${sync} starts with what the top image holds, or with nothing`, async s => {
    await newChain(s, F040);
    await s.io('top', 'write -P 1 1M 64k');
    await newDisk(s, 'target', { size: '2M' });
    await s.ok('blockdev-mirror', { 'job-id': 'job0', device: 'top', target: 'target', sync });
    const { data } = await jobReady(s);
    expect(data).toMatchObject({ len: length, offset: length });
    await s.ok('query-block-jobs');
    await s.ok('job-complete', { id: 'job0' });
    await noJobs(s);
    await lookAtNodes(s);
    await s.io('top', 'read -P 0 0 1M');
    await closeNodes(s, 'top', 'mid', 'base');
  });
}

scenario('MI-05', 'what cannot be mirrored is refused in QEMU’s words, with no job left', async s => {
  await twoDisks(s);
  await newDisk(s, 'other', { size: '16M' });
  const refused = async (args: object) => {
    await s.refused('blockdev-mirror', {
      'job-id': 'job0',
      device: 'source',
      target: 'target',
      sync: 'full',
      ...args,
    });
    expect(await s.ask('query-jobs')).toEqual([]);
  };
  for (const args of [
    { device: 'none' },
    { target: 'none' },
    { target: 'source' },
    { 'job-id': '1st' },
    { granularity: 3 },
    { granularity: 256 },
    { granularity: 134_217_728 },
    { granularity: 100_000 },
    { 'buf-size': -1 },
    { speed: -1 },
    { sync: 'incremental' },
    { sync: 'bitmap' },
    { sync: 'half' },
    { 'copy-mode': 'never' },
    { 'on-source-error': 'never' },
    { replaces: 'none' },
    { replaces: 'target' },
    { replaces: 'other' },
    { 'filter-node-name': 'target' },
    { 'filter-node-name': '1st' },
    { granularity: 3, replaces: 'none' },
    { granularity: 3, 'buf-size': -1 },
    { sync: 'bitmap', 'buf-size': -1 },
    { sync: 'bitmap', replaces: 'none' },
    { sync: 'bitmap', target: 'source' },
    { target: 'source', 'job-id': '1st' },
    { target: 'source', 'buf-size': -1 },
    { 'buf-size': -1, 'job-id': '1st' },
    { 'filter-node-name': '1st', 'job-id': '1st' },
    { replaces: 'none', 'job-id': '1st' },
    { speed: -1, 'filter-node-name': 'target' },
  ]) {
    await refused(args);
  }
  await s.refused('blockdev-mirror', { device: 'source', target: 'target', sync: 'full' });
  await lookAtNodes(s);
});

scenario(
  'MI-05 users',
  'a target that somebody uses is refused, and so are users who come later',
  async s => {
    await twoDisks(s);
    await s.image('over', { format: 'qcow2', size: '16M', backing: 'source' });
    await s.io('target', 'read 0 512');
    const mirror = { 'job-id': 'job0', device: 'source', target: 'target', sync: 'full' };
    await s.refused('blockdev-mirror', mirror);
    await s.closeGuest('target');
    await s.ok('blockdev-mirror', mirror);
    await jobReady(s);
    for (const writable of [true, false]) {
      await s.refused('block-export-add', { type: 'nbd', id: 'e', 'node-name': 'target', writable });
    }
    await s.refused('blockdev-mirror', { ...mirror, 'job-id': 'job1' });
    await s.refused('block-commit', { 'job-id': 'job1', device: 'source' });
    await s.refused('block-stream', { 'job-id': 'job1', device: 'source' });
    await s.refused('blockdev-backup', mirror);
    await s.refused('blockdev-mirror', mirror);
    await s.ok('job-cancel', { id: 'job0' });
    await noJobs(s);
    const file = { driver: 'file', filename: s.path('over') };
    await s.add({ driver: 'qcow2', 'node-name': 'over', file, backing: 'source' });
    await s.refused('blockdev-mirror', mirror);
  },
);

scenario('MI-06', 'images of different sizes are the job’s own failure', async s => {
  await newDisk(s, 'source', { size: '16M' });
  for (const [name, size] of [
    ['small', '8M'],
    ['large', '32M'],
  ] as const) {
    await newDisk(s, name, { size });
    await s.ok('blockdev-mirror', { 'job-id': name, device: 'source', target: name, sync: 'full' });
    await s.event('BLOCK_JOB_COMPLETED');
    await noJobs(s);
  }
  await lookAtNodes(s);
});

scenario('MI-07', 'a read-only target is refused', async s => {
  await newDisk(s, 'source', { size: '16M' });
  await s.image('target', { format: 'qcow2', size: '16M' });
  const file = { driver: 'file', filename: s.path('target') };
  await s.add({ driver: 'qcow2', 'node-name': 'target', file, 'read-only': true });
  await s.refused('blockdev-mirror', { 'job-id': 'job0', device: 'source', target: 'target', sync: 'full' });
});

const SPEEDS = [
  [{ speed: 1 }, 16],
  [{ speed: 1, 'buf-size': MiB }, 1],
  [{ speed: 1, 'buf-size': 65_536 }, 1 / 16],
  [{ speed: 1, granularity: 4096 }, 16],
  [{ speed: 8 * MiB }, 16],
] as const;
for (const [args, steps] of SPEEDS) {
  scenario(`MI-08 ${JSON.stringify(args)}`, 'what one step copies', async s => {
    await twoDisks(s, '64M');
    await s.io('source', 'write -P 1 0 40M');
    await startMirror(s, args);
    await s.until('a step', async () => (await lookAt(s, 'job0'))!.offset >= steps * MiB);
    expect((await lookAt(s, 'job0'))!.offset).toBe(steps * MiB);
    await s.ok('block-job-cancel', { device: 'job0' });
    await s.event('BLOCK_JOB_CANCELLED');
    await noJobs(s);
  });
}

/** From the first flush on, the next one fails once. */
const once = (event: string, errno: number, sector: number) => ({
  'inject-error': [{ event, errno, sector, once: true, immediately: false }],
});

for (const side of ['source', 'target'] as const) {
  for (const policy of ['report', 'stop', 'ignore', 'enospc'] as const) {
    scenario(`MI-09 ${side} ${policy}`, `on-${side}-error ${policy}`, async s => {
      const fault = once(side === 'source' ? 'read_aio' : 'write_aio', policy === 'enospc' ? 28 : 5, 1024);
      await s.image('source', { format: 'qcow2', size: '2M' });
      await s.peek('qemu-io', '-f', 'qcow2', '-c', 'write -q -P 1 0 512k', s.path('source'));
      await openDisk(s, 'source', side === 'source' ? fault : undefined);
      await newDisk(s, 'target', { size: '2M', ...(side === 'target' && { fault }) });
      await s.ok('blockdev-mirror', {
        'job-id': 'job0',
        device: 'source',
        target: 'target',
        sync: 'top',
        [`on-${side}-error`]: policy,
      });
      await s.event('BLOCK_JOB_ERROR');
      if (policy === 'stop' || policy === 'enospc') {
        await jobsAre(s, ['job0'], 'paused');
        await s.ok('query-block-jobs');
        await s.ok('job-resume', { id: 'job0' });
      }
      if (policy !== 'report') {
        await jobReady(s);
        await s.ok('block-job-cancel', { device: 'job0' });
      }
      await s.event('BLOCK_JOB_COMPLETED');
      await noJobs(s);
      await closeNodes(s, 'source', 'target');
      expect(await s.compare('source', 'target')).toBe(policy !== 'report');
    });
  }
}

scenario(
  'MI-10',
  'sizes that are no multiple of the granularity are mirrored to their last byte',
  async s => {
    await twoDisks(s, '1000k');
    await s.io('source', 'write -P 1 0 1000k');
    await startMirror(s, {});
    await jobReady(s);
    await s.io('source', 'write -P 2 999k 1k');
    await s.ok('block-job-cancel', { device: 'job0' });
    await s.event('BLOCK_JOB_COMPLETED');
    await noJobs(s);
    await expectEqual(s);
  },
);

scenario('MI-11', 'what guests discard meanwhile stays, on both', async s => {
  for (const name of ['source', 'target']) {
    await s.image(name, { format: 'qcow2', size: '4M' });
    const file = { driver: 'file', filename: s.path(name) };
    await s.add({ driver: 'qcow2', 'node-name': name, file, discard: 'unmap' });
  }
  await s.io('source', 'write -P 1 0 4M');
  await startMirror(s, { 'copy-mode': 'write-blocking' });
  await jobReady(s);
  await s.io('source', 'discard 0 128k', 'read -P 1 0 128k', 'write -z -u 192k 64k');
  await s.ok('query-block-jobs');
  await s.ok('block-job-cancel', { device: 'job0' });
  await noJobs(s);
  await expectEqual(s);
});

scenario('MI-12', 'the target of a mirror may be a raw image, and the disk a whole chain', async s => {
  await newChain(s, F040);
  await s.image('target', { format: 'raw', size: '2M' });
  await s.add({ driver: 'raw', 'node-name': 'target', file: { driver: 'file', filename: s.path('target') } });
  await s.io('top', ...F040_CONTENTS);
  await s.ok('blockdev-mirror', { 'job-id': 'job0', device: 'top', target: 'target', sync: 'full' });
  await jobReady(s);
  await s.ok('job-complete', { id: 'job0' });
  await noJobs(s);
  await closeNodes(s, 'top', 'mid', 'base');
  await s.io('top', ...F040_CONTENTS);
  await lookAtNodes(s);
});

scenario('MI-13', 'bitmaps of the source stay there, and those of the target take note', async s => {
  await twoDisks(s, '4M');
  for (const node of ['source', 'target']) await s.ok('block-dirty-bitmap-add', { node, name: 'b' });
  await s.io('source', 'write -P 1 0 64k');
  await startMirror(s, { sync: 'top' });
  await jobReady(s);
  for (const node of ['source', 'target']) await s.bitmaps(node);
  await s.io('source', 'write -P 2 1M 64k');
  await s.ok('job-complete', { id: 'job0' });
  await noJobs(s);
  await s.io('source', 'write -P 3 2M 64k');
  expect((await s.bitmap('source', 'b')).count).toBe(131_072);
  expect((await s.bitmap('target', 'b')).count).toBe(196_608);
});

scenario('MI-14', 'who writes to the source by its own name is mirrored as well', async s => {
  await twoDisks(s, '4M');
  await startMirror(s, { sync: 'none' });
  await jobReady(s);
  await s.io('source', 'write -P 1 0 64k', 'write -P 2 100k 1k', 'write -z 128k 4k');
  await s.ok('block-job-cancel', { device: 'job0' });
  await noJobs(s);
  await expectEqual(s);
});
