// Goal: jobs of one group all succeed or none does, whatever the order in which they end (scenarios TX-15 to
// TX-20). Method: jobs whose work ends when the test says so, and their events.
import { describe, expect, it } from 'vitest';
import { EngineError } from '../errors.ts';
import { HandJob, type HandJobOptions } from '../testing/hand-job.ts';
import { ManualClock, settled } from '../testing/manual-clock.ts';
import { JobGroup } from './job-group.ts';
import { JobRegistry } from './job-registry.ts';

const failure = () => new EngineError('io', 'Input/output error');

function members(...options: HandJobOptions[]): HandJob[] {
  const group = new JobGroup();
  const registry = new JobRegistry(new ManualClock());
  return options.map((each, index) => new HandJob({ id: `job${index + 1}`, ...each, group, registry }));
}

/** Events of all members but the status changes up to pending. */
function ends(jobs: HandJob[]): string[] {
  return jobs[0]!.registry
    .eventsAfter(0)
    .map(({ event }) =>
      event.type === 'job-status' ? `${event.jobId} ${event.state}` : `${event.jobId} ${event.type}`,
    )
    .filter(text => /aborting|completed|cancelled|concluded|null|job-pending/.test(text));
}

const outcome = (job: HandJob) => job.error?.kind ?? 'success';

describe('a group', () => {
  type Step = 'done' | 'fail' | 'cancel';
  const matrix: [Step, Step, string, string][] = [
    ['done', 'done', 'success', 'success'],
    ['fail', 'done', 'io', 'cancelled'],
    ['done', 'fail', 'cancelled', 'io'],
    ['cancel', 'done', 'cancelled', 'cancelled'],
    ['done', 'cancel', 'cancelled', 'cancelled'],
  ];
  for (const secondFirst of [false, true]) {
    it.each(matrix)(
      `of two that end %s and %s, ${secondFirst ? 'last' : 'first'} one first`,
      async (...row) => {
        const jobs = members({}, {});
        for (const job of jobs) job.start();
        const steps = [0, 1].map(index => async () => {
          const job = jobs[index]!;
          if (job.state === 'null') return;
          if (row[index] === 'cancel') job.cancel();
          else await job.end(row[index] === 'fail' ? failure() : undefined);
        });
        for (const step of secondFirst ? steps.reverse() : steps) await step();
        await Promise.all(jobs.map(job => job.concluded));
        expect(jobs.map(outcome)).toEqual(row.slice(2));
        expect(jobs[0]!.registry.all).toEqual([]);
      },
    );
  }

  it('hears of a cancel while the other does its last step', async () => {
    const jobs = members({}, {});
    for (const job of jobs) job.start();
    const last = jobs[1]!.end();
    jobs[0]!.cancel();
    await last;
    await Promise.all(jobs.map(job => job.concluded));
    expect(jobs.map(outcome)).toEqual(['cancelled', 'cancelled']);
  });

  it('of many ends when a user cancels one', async () => {
    const jobs = members({}, {}, {}, {});
    for (const job of jobs) job.start();
    await jobs[0]!.end();
    jobs[2]!.cancel();
    await Promise.all(jobs.map(job => job.concluded));
    expect(jobs.map(job => job.events.filter(event => event.type === 'job-cancelled').length)).toEqual([
      1, 1, 1, 1,
    ]);
    for (const job of jobs) expect(job.calls).toEqual(['abort', 'clean']);
  });

  it('finalizes its youngest first, each to its end before the next', async () => {
    const jobs = members({}, {});
    for (const job of jobs) job.start();
    await jobs[0]!.end();
    expect(jobs[0]!.state).toBe('waiting');
    await jobs[1]!.end();
    const each = (id: string) => [`${id} job-completed`, `${id} concluded`, `${id} null`];
    expect(ends(jobs)).toEqual([...each('job2'), ...each('job1')]);
  });

  it('tells who failed first, and ends the others as cancelled', async () => {
    const jobs = members({}, {});
    for (const job of jobs) job.start();
    await jobs[1]!.end();
    await jobs[0]!.end(failure());
    expect(ends(jobs)).toEqual([
      'job1 aborting',
      ...['job2 aborting', 'job2 job-cancelled', 'job2 concluded', 'job2 null'],
      ...['job1 job-completed', 'job1 concluded', 'job1 null'],
    ]);
  });

  it('waits in pending for one finalize when one member wants it, which finalizes all', async () => {
    const jobs = members({ autoFinalize: false }, {});
    for (const job of jobs) {
      job.start();
      await job.end();
    }
    expect(jobs.map(job => job.state)).toEqual(['pending', 'pending']);
    expect(ends(jobs)).toEqual(['job1 job-pending']);
    jobs[1]!.finalize();
    await Promise.all(jobs.map(job => job.concluded));
    expect(jobs.map(outcome)).toEqual(['success', 'success']);
  });

  it('is aborted as a whole when one of it cannot be prepared', async () => {
    const jobs = members({}, {});
    jobs[0]!.prepareFailure = failure();
    for (const job of jobs) {
      job.start();
      await job.end();
    }
    await Promise.all(jobs.map(job => job.concluded));
    expect(jobs.map(outcome)).toEqual(['io', 'cancelled']);
    for (const job of jobs) expect(job.calls).toEqual(['abort', 'clean']);
  });

  it('is aborted as a whole when one of it is cancelled while all are pending', async () => {
    const jobs = members({ autoFinalize: false }, { autoFinalize: false });
    for (const job of jobs) {
      job.start();
      await job.end();
    }
    jobs[0]!.cancel();
    await settled();
    for (const job of jobs) expect(job.calls).toEqual(['abort', 'clean']);
    expect(ends(jobs).filter(text => text.endsWith('job-cancelled'))).toEqual([
      'job2 job-cancelled',
      'job1 job-cancelled',
    ]);
  });
});
