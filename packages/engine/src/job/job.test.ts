// Goal: jobs go only the ways of the state table and accept only the verbs of the verb table; groups
// succeed or fail together. Method: a job whose work ends when the test says so (scenarios 2.1 to 2.3,
// JOB-V, TX-17 to TX-20).
import { describe, expect, it } from 'vitest';
import { systemClock } from '../clock.ts';
import { EngineError } from '../errors.ts';
import { Job } from './job.ts';
import type { JobEvent } from './job-event.ts';
import { JobGroup } from './job-group.ts';
import type { JobOptions } from './job-options.ts';
import { JobRegistry } from './job-registry.ts';
import { acceptsVerb, JOB_STATES, JOB_VERBS, type JobState, type JobVerb, mayChange } from './job-state.ts';

class HandJob extends Job {
  readonly type = 'hand';
  readonly done = Promise.withResolvers<void>();
  readonly calls: string[] = [];
  failPrepare = false;
  cleaned: Promise<void> = Promise.resolve();

  constructor(options: Partial<JobOptions> & { id: string }) {
    super({ clock: systemClock, ...options });
  }

  progress() {
    return { currentBytes: 0, totalBytes: 0, sentBytes: 0 };
  }

  protected override async run(): Promise<void> {
    await this.done.promise;
    await this.pausePoint();
  }
  protected override async prepare(): Promise<void> {
    if (this.failPrepare) throw new EngineError('io', 'prepare failed');
  }
  protected override async commit(): Promise<void> {
    this.calls.push('commit');
  }
  protected override async abort(): Promise<void> {
    this.calls.push('abort');
  }
  protected override async clean(): Promise<void> {
    this.calls.push('clean');
    await this.cleaned;
  }
  protected override onCancel(): void {
    this.done.resolve();
  }
}

const turn = () => new Promise<void>(resolve => setImmediate(resolve));

function listed(options: Partial<JobOptions> & { id: string }, registry = new JobRegistry(systemClock)) {
  const job = new HandJob(options);
  registry.add(job);
  const states = () =>
    registry
      .eventsAfter(0)
      .map(({ event }) => event)
      .filter((event): event is JobEvent & { type: 'job-status' } => event.type === 'job-status')
      .filter(event => event.jobId === options.id)
      .map(event => event.state);
  return { job, registry, states };
}

describe('job states', () => {
  it('allow exactly the ways of the table', () => {
    const ways = JOB_STATES.flatMap(from =>
      JOB_STATES.filter(to => mayChange(from, to)).map(to => `${from}>${to}`),
    );
    expect(ways).toEqual([
      ...['created>running', 'created>aborting', 'created>null'],
      ...['running>paused', 'running>ready', 'running>waiting', 'running>aborting', 'paused>running'],
      ...['ready>standby', 'ready>waiting', 'ready>aborting', 'standby>ready'],
      ...['waiting>pending', 'waiting>aborting', 'pending>aborting', 'pending>concluded'],
      ...['aborting>aborting', 'aborting>concluded', 'concluded>null'],
    ]);
  });

  it('accept exactly the verbs of the table', () => {
    const rows: Record<JobVerb, JobState[]> = {
      cancel: ['created', 'running', 'paused', 'ready', 'standby', 'waiting', 'pending'],
      pause: ['created', 'running', 'paused', 'ready', 'standby'],
      resume: ['created', 'running', 'paused', 'ready', 'standby'],
      'set-speed': ['created', 'running', 'paused', 'ready', 'standby'],
      complete: ['ready', 'standby'],
      finalize: ['pending'],
      dismiss: ['concluded'],
    };
    for (const verb of JOB_VERBS) {
      expect(JOB_STATES.filter(state => acceptsVerb(state, verb))).toEqual(rows[verb]);
    }
  });

  it('follow an undisturbed job to its end', async () => {
    const { job, registry, states } = listed({ id: 'job0' });
    job.start();
    job.done.resolve();
    await job.concluded;
    expect(states()).toEqual(['created', 'running', 'waiting', 'pending', 'concluded', 'null']);
    expect(job.calls).toEqual(['commit', 'clean']);
    expect(registry.all).toEqual([]);
  });

  it('wait for finalize and dismiss when they were asked for, refusing what comes too early', async () => {
    const { job, registry, states } = listed({ id: 'job0', autoFinalize: false, autoDismiss: false });
    job.start();
    expect(() => job.dismiss()).toThrow("Job 'job0' in state 'running' cannot accept command verb 'dismiss'");
    job.done.resolve();
    await turn();
    expect(job.state).toBe('pending');
    expect(() => job.pause()).toThrow(/cannot accept command verb 'pause'/);
    expect(() => registry.assertIdFree('job0')).toThrow("Job ID 'job0' already in use");
    job.finalize();
    await job.concluded;
    expect(states().at(-1)).toBe('concluded');
    job.dismiss();
    expect(registry.find('job0')).toBeUndefined();
  });

  it('pause and resume, and tell double pause and resume without pause', async () => {
    const { job, states } = listed({ id: 'job0' });
    job.start();
    expect(() => job.resume()).toThrow(/was not paused/);
    job.pause();
    expect(() => job.pause()).toThrow(/already paused/);
    job.done.resolve();
    await turn();
    expect(job.state).toBe('paused');
    job.resume();
    await job.concluded;
    expect(states().slice(1, 4)).toEqual(['running', 'paused', 'running']);
  });

  it.each(['created', 'running', 'paused', 'pending'])('cancel from %s ends without a leak', async state => {
    const { job, registry } = listed({ id: 'job0', autoFinalize: false });
    if (state !== 'created') job.start();
    if (state === 'paused') job.pause();
    if (state === 'paused' || state === 'pending') job.done.resolve();
    await turn();
    expect(job.state).toBe(state);
    job.cancel();
    await job.concluded;
    expect(job.calls).toEqual(['abort', 'clean']);
    expect(registry.all).toEqual([]);
    const ends = registry.eventsAfter(0).filter(({ event }) => event.type === 'job-cancelled');
    expect(ends).toHaveLength(state === 'created' ? 0 : 1);
  });

  it('end once when cancel comes while they commit', async () => {
    const { job, registry } = listed({ id: 'job0' });
    const cleaning = Promise.withResolvers<void>();
    job.cleaned = cleaning.promise;
    job.start();
    job.done.resolve();
    await turn();
    expect(job.calls).toEqual(['commit', 'clean']);
    job.cancel();
    cleaning.resolve();
    await job.concluded;
    expect(job.calls).toEqual(['commit', 'clean']);
    expect(job.error).toBeUndefined();
    expect(registry.all).toEqual([]);
  });

  it('refuse ids that are none', () => {
    for (const id of ['0id', '', '  ', '123', '_id', '-id', '.id', '#id']) {
      expect(() => new HandJob({ id })).toThrow(`Invalid job ID '${id}'`);
    }
    for (const id of ['id0', 'id_2']) expect(new HandJob({ id }).id).toBe(id);
  });

  it('replay events after a sequence number', async () => {
    const { job, registry } = listed({ id: 'job0' });
    job.start();
    job.done.resolve();
    await job.concluded;
    const all = registry.eventsAfter(0);
    expect(registry.eventsAfter(all[2]!.sequence)).toEqual(all.slice(3));
  });
});

describe('job group', () => {
  const pair = (second: Partial<JobOptions> = {}) => {
    const group = new JobGroup();
    const registry = new JobRegistry(systemClock);
    return [
      listed({ id: 'a', group }, registry).job,
      listed({ id: 'b', group, ...second }, registry).job,
    ] as const;
  };

  it('waits for its last member before any is finalized', async () => {
    const [a, b] = pair();
    for (const job of [a, b]) job.start();
    a.done.resolve();
    await turn();
    expect(a.state).toBe('waiting');
    b.done.resolve();
    await Promise.all([a.concluded, b.concluded]);
    expect([a.error, b.error]).toEqual([undefined, undefined]);
  });

  it('cancels the others when one fails, also one that is done already', async () => {
    const [a, b] = pair();
    for (const job of [a, b]) job.start();
    a.done.resolve();
    await turn();
    b.done.reject(new EngineError('io', 'Input/output error'));
    await Promise.all([a.concluded, b.concluded]);
    expect(a.error?.kind).toBe('cancelled');
    expect(b.error?.message).toBe('Input/output error');
    expect(a.calls).toEqual(['abort', 'clean']);
  });

  it('is finalized as a whole by one finalize, and aborted as a whole by one failed prepare', async () => {
    for (const failPrepare of [false, true]) {
      const [a, b] = pair({ autoFinalize: false });
      b.failPrepare = failPrepare;
      for (const job of [a, b]) {
        job.start();
        job.done.resolve();
      }
      await turn();
      expect([a.state, b.state]).toEqual(['pending', 'pending']);
      a.finalize();
      await Promise.all([a.concluded, b.concluded]);
      expect(a.calls[0]).toBe(failPrepare ? 'abort' : 'commit');
      expect(b.calls[0]).toBe(failPrepare ? 'abort' : 'commit');
    }
  });
});
