// Goal: jobs go only the ways of the state table, and each verb is accepted in exactly the states of the
// verb table, with nothing changed where it is not. Method: the tables as scenarios 2.1 and 2.2 have them,
// written out, and a job brought into every state and told every verb.
import { describe, expect, it } from 'vitest';
import { EngineError } from '../errors.ts';
import { ReadyJob } from '../testing/hand-job.ts';
import { settled } from '../testing/manual-clock.ts';
import type { Job } from './job.ts';
import { JobGroup } from './job-group.ts';
import { acceptsVerb, JOB_STATES, JOB_VERBS, type JobState, type JobVerb, mayChange } from './job-state.ts';

const WAYS: Record<JobState, string> = {
  created: 'running aborting null',
  running: 'paused ready waiting aborting',
  paused: 'running',
  ready: 'standby waiting aborting',
  standby: 'ready',
  waiting: 'pending aborting',
  pending: 'aborting concluded',
  aborting: 'aborting concluded',
  concluded: 'null',
  null: '',
};

//                 created running paused ready standby waiting pending aborting concluded
const VERBS: Record<JobVerb, string> = {
  cancel: '         yes     yes     yes   yes   yes     yes     yes     no       no',
  pause: '          yes     yes     yes   yes   yes     no      no      no       no',
  resume: '         yes     yes     yes   yes   yes     no      no      no       no',
  'set-speed': '    yes     yes     yes   yes   yes     no      no      no       no',
  complete: '       no      no      no    yes   yes     no      no      no       no',
  finalize: '       no      no      no    no    no      no      yes     no       no',
  dismiss: '        no      no      no    no    no      no      no      no       yes',
};
const STATES = JOB_STATES.filter(state => state !== 'null');
const CELLS = JOB_VERBS.flatMap(verb => {
  const row = VERBS[verb].trim().split(/ +/);
  return STATES.map((state, column) => [verb, state, row[column] === 'yes'] as const);
});

/** How each state is reached. */
const PATHS: Record<Exclude<JobState, 'null'>, (job: ReadyJob) => Promise<void>> = {
  created: async () => {},
  running: async job => job.start(),
  paused: async job => {
    job.start();
    job.pause();
    await settled();
  },
  ready: async job => {
    job.start();
    job.becomeReady();
  },
  standby: async job => {
    job.start();
    job.becomeReady();
    job.pause();
    await settled();
  },
  waiting: async job => {
    job.start();
    await job.end();
  },
  pending: async job => {
    job.start();
    await job.end();
  },
  aborting: async job => {
    job.start();
    job.cleaned = new Promise(() => {});
    await job.end(new EngineError('io', 'Input/output error'));
  },
  concluded: async job => {
    job.start();
    await job.end(new EngineError('io', 'Input/output error'));
  },
};

async function jobIn(state: Exclude<JobState, 'null'>): Promise<ReadyJob> {
  // A second member that never ends keeps the first one waiting.
  const group = new JobGroup();
  const job = new ReadyJob({ autoFinalize: false, autoDismiss: false, group });
  if (state === 'waiting') new ReadyJob({ id: 'other', group, registry: job.registry });
  await PATHS[state](job);
  expect(job.state).toBe(state);
  return job;
}

const DO: Record<JobVerb, (job: Job) => void> = {
  cancel: job => job.cancel(),
  pause: job => job.pause(),
  resume: job => job.resume(),
  'set-speed': job => job.setSpeed(4096),
  complete: job => job.complete(),
  finalize: job => job.finalize(),
  dismiss: job => job.dismiss(),
};

describe('the state table', () => {
  it.each(JOB_STATES)('lets %s go exactly its ways', from => {
    expect(JOB_STATES.filter(to => mayChange(from, to))).toEqual(
      JOB_STATES.filter(to => WAYS[from].split(' ').includes(to)),
    );
  });
});

describe('the verb table', () => {
  it('has a cell for each verb in each state', () => expect(CELLS).toHaveLength(63));

  it.each(CELLS)('%s in %s: %s', async (verb, state, accepted) => {
    expect(acceptsVerb(state, verb)).toBe(accepted);
    const job = await jobIn(state);
    // To pause what is paused, or resume what is not, has an answer of its own.
    if (verb === 'pause' && job.info().userPaused) {
      expect(() => job.pause()).toThrow('Job is already paused');
      return;
    }
    if (verb === 'resume' && !job.info().userPaused) {
      expect(() => job.resume()).toThrow("Can't resume a job that was not paused");
      return;
    }
    if (accepted) {
      DO[verb](job);
      return;
    }
    const before = job.info();
    const text = `Job 'job0' in state '${state}' cannot accept command verb '${verb}'`;
    expect(() => DO[verb](job)).toThrow(text);
    expect(job.info()).toEqual(before);
  });
});
