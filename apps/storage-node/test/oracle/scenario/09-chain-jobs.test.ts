// The life of jobs on chains, mirrors among them: cancelled, paused, quit in the middle.
import { expect } from 'vitest';
import { newDisk } from '../backup-chain.ts';
import {
  closeNodes,
  jobReady,
  lookAtNodes,
  newChain,
  noJobs,
  startCommit,
  startStream,
} from '../image-chain.ts';
import { jobsAre, lookAt } from '../job-watch.ts';
import { scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const MiB = 1024 * 1024;

scenario('LC-02', 'a mirror’s way: running, ready, standby, and the verbs that each state takes', async s => {
  await newDisk(s, 'source', { size: '4M' });
  await newDisk(s, 'target', { size: '4M' });
  await s.io('source', 'write -P 1 0 4M');
  const speed = { speed: 262_144, 'buf-size': 65_536 };
  await s.ok('blockdev-mirror', {
    'job-id': 'job0',
    device: 'source',
    target: 'target',
    sync: 'full',
    ...speed,
  });
  await s.until('a step', async () => (await lookAt(s, 'job0'))!.offset > 0);
  for (const verb of ['complete', 'finalize', 'dismiss']) await s.refused(`job-${verb}`, { id: 'job0' });
  await s.ok('job-pause', { id: 'job0' });
  await jobsAre(s, ['job0'], 'paused');
  await s.refused('job-pause', { id: 'job0' });
  await s.ok('job-resume', { id: 'job0' });
  await s.ok('block-job-set-speed', { device: 'job0', speed: 0 });
  const { data } = await jobReady(s);
  expect(data).toMatchObject({ len: 4 * MiB, offset: 4 * MiB });
  await s.ok('query-jobs');
  await s.ok('job-pause', { id: 'job0' });
  await jobsAre(s, ['job0'], 'standby');
  await s.ok('query-jobs');
  await s.ok('job-resume', { id: 'job0' });
  await jobsAre(s, ['job0'], 'ready');
  for (const verb of ['finalize', 'dismiss']) await s.refused(`job-${verb}`, { id: 'job0' });
  await s.ok('job-complete', { id: 'job0' });
  await s.event('BLOCK_JOB_COMPLETED');
  await noJobs(s);
});

/** LC-04: an image of 1 MiB with half of it in each layer. */
async function smallChain(s: Session): Promise<void> {
  await newChain(s, [
    { name: 'base', size: '1M', data: ['write -q -P 1 0 1M'] },
    { name: 'mid', size: '1M', data: ['write -q -P 2 0 1M'] },
    { name: 'top', size: '1M' },
  ]);
}

scenario('LC-04 mirror', 'a ready mirror keeps its disks; cancelled softly, it has completed', async s => {
  await newDisk(s, 'source', { size: '1M' });
  await newDisk(s, 'target', { size: '1M' });
  await s.ok('blockdev-mirror', { 'job-id': 'job0', device: 'source', target: 'target', sync: 'none' });
  await jobReady(s);
  await s.refused('blockdev-del', { 'node-name': 'source' });
  await s.ok('block-job-cancel', { device: 'job0' });
  const { data } = await s.event('BLOCK_JOB_COMPLETED');
  expect(data).toMatchObject({ len: 0, offset: 0 });
  await noJobs(s);
  await closeNodes(s, 'source', 'target');
});

scenario('LC-04 active', 'so does a ready active commit', async s => {
  await smallChain(s);
  await startCommit(s, { 'base-node': 'mid' });
  await jobReady(s);
  for (const name of ['top', 'mid', 'base']) await s.refused('blockdev-del', { 'node-name': name });
  await s.ok('block-job-cancel', { device: 'job0' });
  await s.event('BLOCK_JOB_COMPLETED');
  await noJobs(s);
  await closeNodes(s, 'top', 'mid', 'base');
});

for (const [name, start] of [
  ['intermediate', (s: Session) => startCommit(s, { 'top-node': 'mid', speed: 1 })],
  ['stream', (s: Session) => startStream(s, { speed: 1 })],
] as const) {
  scenario(`LC-04 ${name}`, `a running ${name} job keeps its images; cancelled, it lets them go`, async s => {
    await smallChain(s);
    await start(s);
    await s.until('a step', async () => (await lookAt(s, 'job0'))!.offset > 0);
    for (const node of ['top', 'mid', 'base']) await s.refused('blockdev-del', { 'node-name': node });
    await s.ok('block-job-cancel', { device: 'job0' });
    const { data } = await s.event('BLOCK_JOB_CANCELLED');
    expect(data).toMatchObject({ len: MiB, offset: 524_288 });
    await noJobs(s);
    await lookAtNodes(s);
    await closeNodes(s, 'top', 'mid', 'base');
  });
}

const SLOW = { speed: 65_536 };
const QUIT = {
  intermediate: [(s: Session) => startCommit(s, { 'top-node': 'mid', ...SLOW }), 524_288, 64 * MiB],
  active: [(s: Session) => startCommit(s, SLOW), 4 * MiB, 4 * MiB],
  stream: [(s: Session) => startStream(s, SLOW), 524_288, 64 * MiB],
  mirror: [
    async (s: Session) => {
      await newDisk(s, 'copy');
      await s.ok('blockdev-mirror', {
        'job-id': 'job0',
        device: 'top',
        target: 'copy',
        sync: 'full',
        ...SLOW,
      });
    },
    16 * MiB,
    64 * MiB,
  ],
} as const;

for (const [kind, [start, offset, len]] of Object.entries(QUIT)) {
  scenario(
    `LC-05 ${kind}`,
    `quit ends a running ${kind} job after its one step, without a pivot`,
    async s => {
      await newChain(s, [
        { name: 'base', size: '64M' },
        { name: 'mid', size: '64M', data: ['write -q -P 1 0 4M'] },
        { name: 'top', size: '64M' },
      ]);
      await start(s);
      await s.until('the first step', async () => (await lookAt(s, 'job0'))!.offset === offset);
      await s.daemon.quit();
      const end = s.daemon.qmp.events.find(({ event }) => event === 'BLOCK_JOB_CANCELLED');
      expect(end?.data).toMatchObject({ offset, len });
      for (const image of ['base', 'mid', 'top']) {
        expect((await s.tool('qemu-img', 'check', '-q', s.path(image))).code).toBe(0);
      }
    },
  );
}

scenario(
  'LC-05b',
  'quit with an active commit that is ready: it is cancelled, and the chain as it was',
  async s => {
    await newChain(s, [
      { name: 'base', size: '128M' },
      { name: 'top', size: '128M' },
    ]);
    await startCommit(s, {});
    await jobReady(s);
    await s.daemon.quit();
    await s.tool('qemu-img', 'check', '-q', s.path('top'));
  },
);

for (const lasting of [false, true]) {
  scenario(
    `LC-06 ${lasting ? 'lasting' : 'once'}`,
    'a soft cancel whose flush fails lets the job stand by, until it works or is cancelled by force',
    async s => {
      const fault = {
        'set-state': [
          { event: 'flush_to_disk', state: 1, new_state: 2 },
          { event: 'write_aio', state: 2, new_state: 3 },
        ],
        'inject-error': [
          { event: 'flush_to_disk', iotype: 'flush', errno: 5, state: 3, once: !lasting, immediately: false },
        ],
      };
      await newDisk(s, 'source', { size: '1M' });
      await newDisk(s, 'target', { size: '1M', fault });
      await s.ok('blockdev-mirror', {
        'job-id': 'job0',
        device: 'source',
        target: 'target',
        sync: 'full',
        'on-target-error': 'stop',
      });
      await jobReady(s);
      await s.io('source', 'write -P 1 0 64k');
      await s.until('the copy', async () => (await lookAt(s, 'job0'))!.offset > MiB);
      await s.ok('block-job-cancel', { device: 'job0' });
      await s.event('BLOCK_JOB_ERROR');
      await jobsAre(s, ['job0'], 'standby');
      await s.ok('query-block-jobs');
      if (lasting) {
        await s.ok('job-cancel', { id: 'job0' });
        await s.event('BLOCK_JOB_CANCELLED');
      } else {
        await s.ok('job-resume', { id: 'job0' });
        await s.event('BLOCK_JOB_COMPLETED');
      }
      await noJobs(s);
    },
  );
}

for (const first of ['commit', 'stream'] as const) {
  scenario(`LC-08 ${first}`, `a commit and a stream of one chain, ${first} first`, async s => {
    const names = ['one', 'two', 'three', 'four', 'five', 'six'];
    await newChain(
      s,
      names.map((name, i) => ({ name, size: '4M', data: [`write -q -P ${i + 1} ${i * 512}k 512k`] })),
    );
    const jobs = {
      commit: () =>
        s.ok('block-commit', { 'job-id': 'commit', device: 'six', 'top-node': 'two', 'base-node': 'one' }),
      stream: () => s.ok('block-stream', { 'job-id': 'stream', device: 'five', 'base-node': 'three' }),
    };
    await jobs[first]();
    await jobs[first === 'commit' ? 'stream' : 'commit']();
    await noJobs(s);
    await lookAtNodes(s);
    await s.io('six', ...names.map((_, i) => `read -P ${i + 1} ${i * 512}k 512k`));
    await s.closeGuest('six');
    await closeNodes(s, 'six', 'five', 'four', 'three', 'two', 'one');
    for (const name of names) await s.tool('qemu-img', 'check', '-q', s.path(name));
  });
}

for (const finalize of [true, false]) {
  for (const dismiss of [true, false]) {
    scenario(
      `LC-03 chain ${finalize} ${dismiss}`,
      `commit and stream, auto-finalize ${finalize}, auto-dismiss ${dismiss}`,
      async s => {
        await smallChain(s);
        const how = { 'auto-finalize': finalize, 'auto-dismiss': dismiss };
        for (const start of [
          () => startCommit(s, { 'top-node': 'mid', ...how }),
          () => startStream(s, how),
        ]) {
          await start();
          if (!finalize) {
            await s.event('BLOCK_JOB_PENDING');
            await s.ok('query-jobs');
            await lookAtNodes(s);
            await s.ok('job-finalize', { id: 'job0' });
          }
          if (!dismiss) {
            await jobsAre(s, ['job0'], 'concluded');
            await s.ok('query-jobs');
            await s.ok('job-dismiss', { id: 'job0' });
          }
          await noJobs(s);
          await lookAtNodes(s);
        }
      },
    );
  }
}
