// Requests of a commit that fail, under each policy, of both kinds of commit.
import { expect } from 'vitest';
import {
  closeNodes,
  type Layer,
  lookAtNodes,
  newChain,
  noJobs,
  startCommit,
  startStream,
} from '../image-chain.ts';
import { ours, scenario } from '../scenario.ts';

/** Once, where the first half MiB of data lies in the file. */
const once = (event: string) => ({
  'inject-error': [{ event, errno: 5, sector: 1024, once: true, immediately: false }],
});

/** F040e, with a fault below one of the images. */
function layers(faulty: string, event: string): Layer[] {
  const all: Layer[] = [
    { name: 'base', format: 'raw' },
    { name: 'mid', data: ['write -q -P 0x11 0 512k'] },
    { name: 'top', data: ['write -q -P 0x22 0 512k'] },
  ];
  const fault =
    faulty === 'base'
      ? { 'inject-error': [{ event, errno: 5, sector: 512, once: true, immediately: false }] }
      : once(event);
  return all.map(layer => (layer.name === faulty ? { ...layer, fault } : layer));
}

const KINDS = [
  { kind: 'active', side: 'read', faulty: 'top', args: { 'base-node': 'mid' } },
  { kind: 'active', side: 'write', faulty: 'mid', args: { 'base-node': 'mid' } },
  { kind: 'intermediate', side: 'read', faulty: 'mid', args: { 'top-node': 'mid', 'base-node': 'base' } },
  { kind: 'intermediate', side: 'write', faulty: 'base', args: { 'top-node': 'mid', 'base-node': 'base' } },
] as const;

for (const { kind, side, faulty, args } of KINDS) {
  for (const policy of ['report', 'stop', 'ignore', 'enospc', 'auto'] as const) {
    const title = `${kind} commit, a failed ${side}, on-error ${policy}`;
    scenario(`CM-13 ${kind} ${side} ${policy}`, title, async s => {
      await newChain(s, layers(faulty, side === 'read' ? 'read_aio' : 'write_aio'));
      await startCommit(s, { ...args, 'on-error': policy });
      const { data } = await s.event('BLOCK_JOB_ERROR', { device: 'job0' });
      expect(data?.operation).toBe(side);
      if (policy === 'stop') {
        await s.until('the pause', async () => {
          const [job] = await s.ask<{ status: string }[]>('query-block-jobs');
          return job?.status === 'paused';
        });
        await s.ok('query-block-jobs');
        await s.ok('job-resume', { id: 'job0' });
      }
      const isGood = policy === 'stop' || policy === 'ignore';
      if (kind === 'active' && isGood) {
        await s.event('BLOCK_JOB_READY');
        await s.ok('job-complete', { id: 'job0' });
      }
      await s.event('BLOCK_JOB_COMPLETED');
      await noJobs(s);
      await lookAtNodes(s);
      await closeNodes(s, 'top', 'mid', 'base');
      if (kind === 'active') expect(await s.compare('mid', 'top')).toBe(isGood);
      else expect(await s.compare('base', 'mid', { one: 'raw', other: 'qcow2' })).toBe(isGood);
    });
  }
}

scenario('CM-13 ready', 'a write that fails while the job is ready lets it stand by', async s => {
  const fault = {
    'set-state': [{ event: 'flush_to_disk', state: 1, new_state: 2 }],
    'inject-error': [{ event: 'write_aio', errno: 28, state: 2, once: true, immediately: false }],
  };
  await newChain(s, [
    { name: 'mid', fault },
    { name: 'top', data: ['write -q -P 1 0 64k'] },
  ]);
  await startCommit(s, { 'on-error': 'enospc' });
  await s.event('BLOCK_JOB_READY');
  await s.io('top', 'write -P 2 64k 64k');
  await s.event('BLOCK_JOB_ERROR');
  await s.until('the pause', async () => {
    const [job] = await s.ask<{ status: string }[]>('query-block-jobs');
    return job?.status === 'standby';
  });
  await s.ok('query-block-jobs');
  await s.ok('job-resume', { id: 'job0' });
  await s.ok('job-complete', { id: 'job0' });
  await s.event('BLOCK_JOB_COMPLETED');
  await noJobs(s);
  await closeNodes(s, 'top');
  await s.io('mid', 'read -P 1 0 64k', 'read -P 2 64k 64k');
});

for (const policy of ['report', 'stop'] as const) {
  ours(`CM-13 flush ${policy}`, 'a commit is not over before the base is durable', async s => {
    const fault = {
      'inject-error': [{ event: 'flush_to_disk', iotype: 'flush', errno: 5, once: true, immediately: false }],
    };
    await newChain(s, [
      { name: 'base', format: 'raw', fault },
      { name: 'mid', data: ['write -q -P 1 0 64k'] },
      { name: 'top' },
    ]);
    await startCommit(s, { 'top-node': 'mid', 'on-error': policy });
    const { data } = await s.event('BLOCK_JOB_ERROR');
    expect(data).toMatchObject({ operation: 'write', action: policy });
    if (policy === 'stop') await s.ok('job-resume', { id: 'job0' });
    const end = await s.event('BLOCK_JOB_COMPLETED');
    expect(end.data?.error).toBe(policy === 'stop' ? undefined : 'Input/output error');
    await noJobs(s);
    await s.io('top', 'read -P 1 0 64k');
    await s.closeGuest('top');
    if (policy === 'stop') await closeNodes(s, 'mid', 'top', 'base');
    else await closeNodes(s, 'top', 'mid', 'base');
  });
}

ours(
  'CM-13 header',
  'a header that cannot be rewritten fails the job, and the chain is as it was',
  async s => {
    const fault = {
      'inject-error': [{ event: 'none', iotype: 'write', errno: 5, sector: 0, immediately: false }],
    };
    await newChain(s, [
      { name: 'base', format: 'raw' },
      { name: 'mid', data: ['write -q -P 1 0 64k'] },
      { name: 'top', fault },
    ]);
    for (const start of [
      () => startCommit(s, { 'top-node': 'mid' }),
      () => startStream(s, { 'base-node': 'base' }),
    ]) {
      await start();
      const { data } = await s.event('BLOCK_JOB_COMPLETED');
      expect(data?.error).toBe('Input/output error');
      await noJobs(s);
      await s.io('top', 'read -P 1 0 64k');
    }
    const pointer = { device: 'top', 'image-node-name': 'top', 'backing-file': 'x' };
    const { desc } = await s.refused('change-backing-file', pointer);
    expect(desc).toBe("Could not change backing file to 'x': Input/output error");
    await s.closeGuest('top');
    await closeNodes(s, 'top', 'mid', 'base');
  },
);
