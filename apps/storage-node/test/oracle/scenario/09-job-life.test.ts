// The life of a job from its first event to its last, with and without somebody who finalizes and dismisses.
import { expect } from 'vitest';
import { allJobsGone, closeDisk, newDisk, startBackup } from '../backup-chain.ts';
import { jobsAre, lookAt } from '../job-watch.ts';
import { ours, scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const STEP = 65_536;
/** Four steps a second. */
const STEPS = { speed: 4 * STEP, 'x-perf': { 'max-chunk': STEP } };

async function writtenDisk(s: Session): Promise<void> {
  await newDisk(s, 'disk', { size: '4M' });
  await newDisk(s, 'job0', { size: '4M' });
  await s.io('disk', 'write -P 1 0 4M');
}

const offset = async (s: Session) => (await lookAt(s, 'job0'))!.offset;
const pausing = {
  older: ['block-job-pause', { device: 'job0' }],
  newer: ['job-pause', { id: 'job0' }],
} as const;
const resuming = {
  older: ['block-job-resume', { device: 'job0' }],
  newer: ['job-resume', { id: 'job0' }],
} as const;

scenario('LC-01', 'four steps a second; pause and resume by either family, one step at a time', async s => {
  await writtenDisk(s);
  await startBackup(s, 'disk', 'job0', { sync: 'full', ...STEPS });
  let at = 0;
  for (const [how, [pause, pauseOf]] of Object.entries(pausing)) {
    for (const [then, [resume, resumeOf]] of Object.entries(resuming)) {
      await s.until('the next step', async () => (await offset(s)) === at + STEP);
      at += STEP;
      await s.ok(pause, pauseOf);
      await jobsAre(s, ['job0'], 'paused');
      await new Promise(resolve => setTimeout(resolve, 400));
      expect(await offset(s), `paused by ${how}, to be resumed by ${then}`).toBe(at);
      for (const verb of ['complete', 'finalize', 'dismiss']) await s.refused(`job-${verb}`, { id: 'job0' });
      await s.ok(resume, resumeOf);
      expect((await lookAt(s, 'job0'))!.status).toBe('running');
    }
  }
  await s.refused('block-job-complete', { device: 'job0' });
  for (const verb of ['finalize', 'dismiss']) await s.refused(`block-job-${verb}`, { id: 'job0' });
  await s.ok('block-job-set-speed', { device: 'job0', speed: 0 });
  await allJobsGone(s);
});

scenario('LC-01t', 'eight steps take two seconds', async s => {
  await writtenDisk(s);
  await startBackup(s, 'disk', 'job0', { sync: 'full', ...STEPS });
  const before = performance.now();
  await s.until('eight steps', async () => (await offset(s)) >= 9 * STEP);
  const took = performance.now() - before;
  expect(took).toBeGreaterThan(1800);
  expect(took).toBeLessThan(3500);
  await s.ok('job-cancel', { id: 'job0' });
  await allJobsGone(s);
});

for (const finalize of [true, false]) {
  for (const dismiss of [true, false]) {
    scenario(
      `LC-03 ${finalize} ${dismiss}`,
      `auto-finalize ${finalize}, auto-dismiss ${dismiss}`,
      async s => {
        await writtenDisk(s);
        const how = { 'auto-finalize': finalize, 'auto-dismiss': dismiss };
        await startBackup(s, 'disk', 'job0', { sync: 'full', ...STEPS, ...how });
        await s.ok('block-job-set-speed', { device: 'job0', speed: 0 });
        if (!finalize) {
          await s.event('BLOCK_JOB_PENDING', { id: 'job0' });
          await s.ok('query-jobs');
          await s.ok('query-block-jobs');
          for (const verb of ['pause', 'complete', 'dismiss']) await s.refused(`job-${verb}`, { id: 'job0' });
          await s.ok('job-finalize', { id: 'job0' });
        }
        if (!dismiss) {
          await jobsAre(s, ['job0'], 'concluded');
          await s.ok('query-jobs');
          await s.ok('query-block-jobs');
          for (const verb of ['pause', 'complete', 'finalize'])
            await s.refused(`job-${verb}`, { id: 'job0' });
          await s.ok('job-dismiss', { id: 'job0' });
        }
        await allJobsGone(s);
        expect(await s.ok('query-jobs')).toEqual([]);
        const told = s.daemon.qmp.events.flatMap(({ event, data }) =>
          event === 'JOB_STATUS_CHANGE' && !['paused', 'running'].includes(String(data?.status))
            ? [data?.status]
            : [],
        );
        expect(told).toEqual(['created', 'waiting', 'pending', 'concluded', 'null']);
      },
    );
  }
}

scenario('LC-04', 'a running backup keeps its source; cancelled, it lets it go', async s => {
  await newDisk(s, 'disk', { size: '1M' });
  await newDisk(s, 'job0', { size: '1M' });
  await startBackup(s, 'disk', 'job0', { sync: 'none' });
  await s.refused('blockdev-del', { 'node-name': 'disk' });
  await s.ok('block-job-cancel', { device: 'job0' });
  const { data } = await s.event('BLOCK_JOB_CANCELLED', { device: 'job0' });
  expect(data).toMatchObject({ len: 1_048_576, offset: 0 });
  await allJobsGone(s);
  await s.ok('blockdev-del', { 'node-name': 'disk' });
});

scenario('LC-05', 'quit ends a running backup after its one step', async s => {
  await newDisk(s, 'disk');
  await newDisk(s, 'job0');
  await s.io('disk', 'write -P 1 0 4M');
  await s.closeGuest('disk');
  await startBackup(s, 'disk', 'job0', { sync: 'full', speed: STEP, 'x-perf': { 'max-chunk': STEP } });
  await s.until('the first step', async () => (await offset(s)) === STEP);
  await s.daemon.quit();
  const end = s.daemon.qmp.events.find(({ event }) => event === 'BLOCK_JOB_CANCELLED');
  expect(end?.data).toMatchObject({ offset: STEP, len: 64 * 1024 * 1024 });
  for (const image of ['disk', 'job0']) {
    expect((await s.tool('qemu-img', 'check', '-q', s.path(image))).code).toBe(0);
  }
});

for (const state of ['running', 'paused', 'pending', 'concluded']) {
  scenario(`CC-04 ${state}`, `quit with a job that is ${state}`, async s => {
    await writtenDisk(s);
    const how = { 'auto-finalize': state !== 'pending', 'auto-dismiss': state !== 'concluded' };
    const slow = state === 'running' || state === 'paused' ? { speed: 1 } : {};
    await startBackup(s, 'disk', 'job0', { sync: 'full', ...how, ...slow });
    if (slow.speed !== undefined)
      await s.until('the first step', async () => (await offset(s)) === 1_048_576);
    if (state === 'paused') await s.ok('job-pause', { id: 'job0' });
    await jobsAre(s, ['job0'], state);
    await s.closeGuest('disk');
    await s.daemon.quit();
  });
}

scenario('LC-10', 'jobs follow one another on the same disk and target, again and again', async s => {
  await writtenDisk(s);
  await s.ok('block-dirty-bitmap-add', { node: 'disk', name: 'b' });
  for (let round = 0; round < 25; round++) {
    await startBackup(s, 'disk', 'job0', { sync: 'full' });
    await allJobsGone(s);
    await s.io('disk', `write -P ${round + 1} ${round * 64}k 64k`);
    await startBackup(s, 'disk', 'job0', { sync: 'incremental', bitmap: 'b' });
    await allJobsGone(s);
    await startBackup(s, 'disk', 'job0', { sync: 'none' });
    await s.ok('job-cancel', { id: 'job0' });
    await allJobsGone(s);
  }
  await closeDisk(s, 'disk');
  await s.ok('blockdev-del', { 'node-name': 'job0' });
  expect(await s.compare('disk', 'job0')).toBe(true);
});

ours('CC-07', 'a client that lost its connection asks for the events that it missed', async s => {
  await writtenDisk(s);
  await startBackup(s, 'disk', 'job0', { sync: 'full' });
  await allJobsGone(s);
  type Kept = { sequence: number; event: string; data: unknown };
  const client = await s.daemon.connect();
  const ask = async (args: object) =>
    (await client.execute('x-tidemark-query-events', args)).return as Kept[];
  const all = await ask({});
  expect(all.map(({ event, data }) => ({ event, data }))).toEqual(
    s.daemon.qmp.events
      .filter(({ event }) => event.includes('JOB'))
      .map(({ event, data }) => ({ event, data })),
  );
  const [, , third] = all;
  expect(await ask({ after: third!.sequence })).toEqual(all.slice(3));
  expect(await ask({ after: all.at(-1)!.sequence })).toEqual([]);
  client.close();
});
