// How a backup job fails, stops and goes on at errors of its own, and of the copies that it owes to guests.
import { expect } from 'vitest';
import {
  allJobsGone,
  closeDisk,
  expectEqual,
  jobEnded,
  newDisk,
  openDisk,
  startBackup,
} from '../backup-chain.ts';
import { jobsAre, lookAt, offsetOf } from '../job-watch.ts';
import { different, ours, scenario } from '../scenario.ts';

for (const dismiss of [true, false]) {
  scenario(
    `BJ-07 ${dismiss}`,
    `a failed write stops the job, and resume retries it; auto-dismiss ${dismiss}`,
    async s => {
      await newDisk(s, 'disk');
      const fault = { 'inject-error': [{ event: 'write_aio', errno: 5, immediately: false, once: true }] };
      await newDisk(s, 'target', { fault });
      await s.io('disk', 'write -P 0x9a 0 512', 'write -P 0x55 8M 352k', 'write -P 0x78 15872k 1M');
      await startBackup(s, 'disk', 'target', {
        sync: 'full',
        'on-target-error': 'stop',
        'auto-dismiss': dismiss,
      });
      const { data } = await s.event('BLOCK_JOB_ERROR', { device: 'target' });
      expect(data).toEqual({ device: 'target', operation: 'write', action: 'stop' });
      await jobsAre(s, ['target'], 'paused');
      const { desc } = await s.refused('job-dismiss', { id: 'target' });
      expect(desc).toBe("Job 'target' in state 'paused' cannot accept command verb 'dismiss'");
      expect(await lookAt(s, 'target')).toMatchObject({ paused: true, 'io-status': 'failed' });
      await s.ok('job-resume', { id: 'target' });
      const end = await s.event('BLOCK_JOB_COMPLETED', { device: 'target' });
      expect(end.data).not.toHaveProperty('error');
      if (!dismiss) {
        await jobsAre(s, ['target'], 'concluded');
        await s.ok('job-dismiss', { id: 'target' });
      }
      await allJobsGone(s);
      await expectEqual(s, 'disk', 'target');
    },
  );
}

/** What each policy does about EIO and about ENOSPC. */
const ACTIONS: Readonly<Record<string, readonly [string, string]>> = {
  report: ['report', 'report'],
  ignore: ['ignore', 'ignore'],
  enospc: ['report', 'stop'],
  stop: ['stop', 'stop'],
  auto: ['report', 'stop'],
};
const ERRNO = [5, 28] as const;

for (const [side, event] of [
  ['source', 'read_aio'],
  ['target', 'write_aio'],
] as const) {
  for (const [policy, actions] of Object.entries(ACTIONS)) {
    scenario(`BJ-11 ${side} ${policy}`, `errors of the ${side} under ${policy}`, async s => {
      for (const [index, errno] of ERRNO.entries()) {
        const fault = { 'inject-error': [{ event, errno, immediately: false, once: true }] };
        const [disk, target] = [`disk${errno}`, `target${errno}`];
        await newDisk(s, disk);
        await s.io(disk, 'write -P 1 0 256k', 'write -P 2 32M 64k');
        await closeDisk(s, disk);
        await openDisk(s, disk, side === 'source' ? fault : undefined);
        await newDisk(s, target, side === 'target' ? { fault } : {});
        const perf = { 'max-workers': 1, 'max-chunk': 65_536 };
        await startBackup(s, disk, target, { sync: 'full', [`on-${side}-error`]: policy, 'x-perf': perf });
        const error = await s.event('BLOCK_JOB_ERROR', { device: target });
        const operation = side === 'source' ? 'read' : 'write';
        expect(error.data).toEqual({ device: target, operation, action: actions[index] });
        if (actions[index] === 'stop') {
          await jobsAre(s, [target], 'paused');
          await s.ok('query-block-jobs');
          await s.refused('job-pause', { id: target });
          await s.ok('job-resume', { id: target });
        }
        const { data } = await jobEnded(s, target);
        expect(data?.error !== undefined).toBe(actions[index] === 'report');
        if (actions[index] !== 'report') await expectEqual(s, disk, target);
      }
    });
  }
}

scenario('BJ-12', 'a job that stops again and again can be cancelled', async s => {
  await newDisk(s, 'disk');
  await s.io('disk', 'write -P 1 0 256k');
  await newDisk(s, 'target', {
    fault: { 'inject-error': [{ event: 'write_aio', errno: 28, immediately: false }] },
  });
  const perf = { 'max-workers': 1, 'max-chunk': 65_536 };
  await startBackup(s, 'disk', 'target', { sync: 'full', 'on-target-error': 'enospc', 'x-perf': perf });
  for (let times = 0; times < 3; times++) {
    await s.event('BLOCK_JOB_ERROR', { device: 'target', action: 'stop' });
    await jobsAre(s, ['target'], 'paused');
    expect(await lookAt(s, 'target')).toMatchObject({ offset: 0, 'io-status': 'nospace' });
    if (times < 2) await s.ok('job-resume', { id: 'target' });
  }
  await s.ok('job-cancel', { id: 'target' });
  await jobEnded(s, 'target', 'BLOCK_JOB_CANCELLED');
});

different(
  'BJ-20',
  'a target that cannot be flushed fails the backup',
  '0015-a-backup-flushes-its-target',
  async s => {
    await newDisk(s, 'disk', { size: '4M' });
    const fault = { 'inject-error': [{ event: 'flush_to_disk', errno: 5, immediately: false }] };
    await newDisk(s, 'target', { size: '4M', fault });
    await s.io('disk', 'write -P 1 0 1M');
    await startBackup(s, 'disk', 'target', { sync: 'full' });
    const { data } = await jobEnded(s, 'target');
    expect(data?.error).toBe(s.side === 'qemu' ? undefined : 'Input/output error');
  },
);

for (const policy of ['break-guest-write', 'break-snapshot'] as const) {
  ours(`CBW-05 ${policy}`, `a job whose copy for a guest fails once, under its own ${policy}`, async s => {
    await newDisk(s, 'disk', { size: '4M' });
    const once = { event: 'write_aio', errno: 5, immediately: false, once: true };
    const fault = { 'inject-error': [once] };
    await newDisk(s, 'target', { size: '4M', fault });
    await s.io('disk', 'write -P 1 0 4M');
    // Nothing but the guest's own copies: the fault can hit no other.
    await startBackup(s, 'disk', 'target', { sync: 'none', 'on-cbw-error': policy, 'cbw-timeout': 5 });
    const output = await s.io('disk', 'write -P 2 1M 64k');
    if (policy === 'break-guest-write') {
      expect(output).toContain('Input/output error');
      expect(await s.io('disk', 'read -P 1 1M 64k', 'write -P 2 1M 64k')).not.toContain('rror');
      expect(await offsetOf(s, 'target')).toBe(65_536);
      await s.ok('job-cancel', { id: 'target' });
      await allJobsGone(s);
    } else {
      expect(output).not.toContain('rror');
      const { data } = await s.event('BLOCK_JOB_COMPLETED', { device: 'target' });
      expect(data?.error).toContain('frozen moment was given up');
    }
    await s.io('disk', 'read -P 2 1M 64k');
  });
}
