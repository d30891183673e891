// Jobs and their verbs, as far as a client of a daemon can bring a backup into the states.
import { expect } from 'vitest';
import { allJobsGone, newDisk, startBackup } from '../backup-chain.ts';
import { jobsAre, lookAt } from '../job-watch.ts';
import { scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

async function twoDisks(s: Session): Promise<void> {
  await newDisk(s, 'disk', { size: '4M' });
  await newDisk(s, 'job0', { size: '4M' });
  await s.io('disk', 'write -P 1 0 4M');
}

/** A job that stays in each state that a backup can be held in. */
const STATES: Readonly<Record<string, (s: Session) => Promise<void>>> = {
  running: async s => {
    await startBackup(s, 'disk', 'job0', { sync: 'full', speed: 1 });
    await s.until('the first step', async () => (await lookAt(s, 'job0'))?.offset === 1_048_576);
  },
  paused: async s => {
    await STATES.running!(s);
    await s.ok('job-pause', { id: 'job0' });
    await jobsAre(s, ['job0'], 'paused');
  },
  pending: async s => {
    await startBackup(s, 'disk', 'job0', { sync: 'full', 'auto-finalize': false });
    await jobsAre(s, ['job0'], 'pending');
  },
  concluded: async s => {
    await startBackup(s, 'disk', 'job0', { sync: 'full', 'auto-dismiss': false });
    await jobsAre(s, ['job0'], 'concluded');
  },
};

const NEW = ['pause', 'resume', 'complete', 'finalize', 'dismiss', 'cancel'];
/** What is refused in each state, by the newer and the older commands alike. */
const REFUSED: Readonly<Record<string, readonly string[]>> = {
  running: ['resume', 'complete', 'finalize', 'dismiss'],
  paused: ['pause', 'complete', 'finalize', 'dismiss'],
  pending: ['pause', 'resume', 'complete', 'dismiss'],
  concluded: ['pause', 'resume', 'complete', 'finalize', 'cancel'],
};

function older(verb: string): [string, object] {
  const key = verb === 'finalize' || verb === 'dismiss' ? 'id' : 'device';
  return [`block-job-${verb}`, { [key]: 'job0' }];
}

for (const [state, verbs] of Object.entries(REFUSED)) {
  scenario(`JOB-V ${state}`, `a ${state} job refuses ${verbs.join(', ')} and stays as it was`, async s => {
    await twoDisks(s);
    await STATES[state]!(s);
    const before = await lookAt(s, 'job0');
    for (const verb of verbs) {
      await s.refused(`job-${verb}`, { id: 'job0' });
      await s.refused(...older(verb));
    }
    if (state === 'concluded' || state === 'pending') {
      await s.refused('block-job-set-speed', { device: 'job0', speed: 5 });
    }
    expect(await lookAt(s, 'job0')).toEqual(before);
    if (state === 'concluded') await s.ok('job-dismiss', { id: 'job0' });
    else await s.ok('job-cancel', { id: 'job0' });
    await allJobsGone(s);
    await s.ok('query-jobs');
  });
}

scenario('JOB-V unknown', 'a job that does not exist is not found, or not active', async s => {
  for (const verb of NEW) {
    expect((await s.refused(`job-${verb}`, { id: 'job0' })).class).toBe('GenericError');
    expect((await s.refused(...older(verb))).class).toBe('DeviceNotActive');
  }
  await s.refused('block-job-set-speed', { device: 'job0', speed: 1 });
  for (const verb of NEW) {
    await s.refused(`job-${verb}`);
    await s.refused(`job-${verb}`, { id: 5 });
    await s.refused(`job-${verb}`, { id: 'job0', force: true });
    await s.refused(`block-job-${verb}`);
  }
  await s.refused('block-job-cancel', { device: 'job0', force: 'yes' });
  await s.refused('block-job-set-speed', { device: 'job0' });
  await s.refused('block-job-set-speed', { device: 'job0', speed: 'fast' });
  await s.refused('block-job-set-speed', { device: 'job0', speed: 1.5 });
  await s.refused('query-jobs', { id: 'job0' });
  await s.ok('query-jobs');
  await s.ok('query-block-jobs');
});

scenario('JOB-ID', 'an id begins with a letter; the same one is free again once its job is gone', async s => {
  await twoDisks(s);
  const args = { device: 'disk', target: 'job0', sync: 'full' };
  for (const id of ['0id', '', '  ', '123', '_id', '-id', '.id', '#id']) {
    const { desc } = await s.refused('blockdev-backup', { ...args, 'job-id': id });
    expect(desc).toBe(`Invalid job ID '${id}'`);
  }
  expect((await s.refused('blockdev-backup', args)).desc).toBe("Invalid job ID ''");
  for (const id of ['id0', 'id_2', 'a.b-c']) {
    await s.ok('blockdev-backup', { ...args, 'job-id': id });
    await allJobsGone(s);
  }
});

scenario('JOB-C', 'two jobs on one disk have ids of their own', async s => {
  await twoDisks(s);
  await newDisk(s, 'job1', { size: '4M' });
  await startBackup(s, 'disk', 'job0', { sync: 'none' });
  expect(
    (await s.refused('blockdev-backup', { 'job-id': 'job0', device: 'disk', target: 'job1', sync: 'none' }))
      .desc,
  ).toBe("Job ID 'job0' already in use");
  await startBackup(s, 'disk', 'job1', { sync: 'none' });
  await s.ok('query-jobs');
  await s.ok('query-block-jobs');
  for (const id of ['job0', 'job1']) await s.ok('block-job-cancel', { device: id });
  await allJobsGone(s);
});

scenario(
  'JOB-CP',
  'a soft cancel of a paused job is refused, a forced one leaves the pause first',
  async s => {
    await twoDisks(s);
    await STATES.paused!(s);
    const { desc } = await s.refused('block-job-cancel', { device: 'job0' });
    expect(desc).toBe("The block job for device 'job0' is currently paused");
    await s.ok('block-job-cancel', { device: 'job0', force: true });
    await allJobsGone(s);
  },
);

for (const state of Object.keys(STATES).filter(name => name !== 'concluded')) {
  scenario(`JOB-X ${state}`, `cancelled when ${state}, a job ends once and leaves nothing`, async s => {
    await twoDisks(s);
    await STATES[state]!(s);
    await s.ok('job-cancel', { id: 'job0' });
    await allJobsGone(s);
    const ends = s.daemon.qmp.events.filter(({ event }) => /CANCELLED|COMPLETED/.test(event));
    expect(ends.map(({ event }) => event)).toEqual(['BLOCK_JOB_CANCELLED']);
    await s.ok('query-block-jobs');
    await s.closeGuest('disk');
    for (const node of ['disk', 'job0']) await s.ok('blockdev-del', { 'node-name': node });
  });
}

scenario('CC-08', 'a concluded job keeps its error until it is dismissed', async s => {
  await twoDisks(s);
  await STATES.running!(s);
  await s.ok('job-cancel', { id: 'job0' });
  await allJobsGone(s);
  await startBackup(s, 'disk', 'job0', { sync: 'full', speed: 1, 'auto-dismiss': false });
  await s.until('the first step', async () => (await lookAt(s, 'job0'))?.offset === 1_048_576);
  await s.ok('job-cancel', { id: 'job0' });
  await jobsAre(s, ['job0'], 'concluded');
  const jobs = await s.ok<{ error?: string }[]>('query-jobs');
  expect(jobs[0]?.error).toBe('Operation canceled');
  await s.ok('query-block-jobs');
  await s.ok('block-job-dismiss', { id: 'job0' });
  await s.ok('query-jobs');
});
