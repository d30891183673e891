// Goal: a job lives as scenario group 2 says, from created to null, with one terminal event and no leak,
// whatever is asked of it in between. Method: jobs whose work ends when the test says so.
import { describe, expect, it } from 'vitest';
import { EngineError } from '../errors.ts';
import { HandJob, ReadyJob } from '../testing/hand-job.ts';
import { ManualClock, settled } from '../testing/manual-clock.ts';
import { JobRegistry } from './job-registry.ts';

const failure = () => new EngineError('io', 'Input/output error');
const terminal = (job: HandJob) =>
  job.events.map(event => event.type).filter(type => type === 'job-completed' || type === 'job-cancelled');

describe('a job', () => {
  it('left alone goes from created to null, committing once', async () => {
    const job = new HandJob();
    job.start();
    await job.end();
    expect(job.states).toEqual(['created', 'running', 'waiting', 'pending', 'concluded', 'null']);
    expect(job.calls).toEqual(['commit', 'clean']);
    expect(terminal(job)).toEqual(['job-completed']);
    expect(job.registry.all).toEqual([]);
  });

  it('waits for finalize and dismiss where it was told to', async () => {
    const job = new HandJob({ autoFinalize: false, autoDismiss: false });
    job.start();
    await job.end();
    expect(job.state).toBe('pending');
    expect(job.events.at(-1)).toEqual({ type: 'job-pending', jobId: 'job0', jobType: 'hand' });
    expect(() => job.registry.assertIdFree('job0')).toThrow("Job ID 'job0' already in use");
    job.finalize();
    await job.concluded;
    expect(job.states.at(-1)).toBe('concluded');
    expect(() => job.registry.assertIdFree('job0')).toThrow("Job ID 'job0' already in use");
    job.dismiss();
    expect(() => job.registry.get('job0')).toThrow('Job not found');
  });

  it('that fails keeps its first error until it is dismissed', async () => {
    const job = new HandJob({ autoDismiss: false });
    job.start();
    await job.end(failure());
    expect(job.states).toEqual(['created', 'running', 'aborting', 'concluded']);
    expect(job.calls).toEqual(['abort', 'clean']);
    expect(job.events.at(-2)).toMatchObject({
      type: 'job-completed',
      error: { message: 'Input/output error' },
    });
    expect(job.info().error?.message).toBe('Input/output error');
  });

  it('pauses and goes on', async () => {
    const job = new HandJob();
    job.start();
    job.pause();
    await settled();
    expect(job.info()).toMatchObject({ state: 'paused', userPaused: true });
    await job.end();
    expect(job.state).toBe('paused');
    job.resume();
    await job.concluded;
    expect(job.states.slice(1, 5)).toEqual(['running', 'paused', 'running', 'waiting']);
  });

  it.each(['created', 'running', 'paused', 'ready', 'standby', 'waiting', 'pending'])(
    'cancelled when it is %s ends without a leak',
    async state => {
      const job = new ReadyJob({ autoFinalize: false });
      if (state !== 'created') job.start();
      if (state === 'ready' || state === 'standby') job.becomeReady();
      if (state === 'paused' || state === 'standby') job.pause();
      if (state === 'pending') await job.end();
      if (state === 'waiting') void job.end();
      await settled();
      job.cancel();
      await job.concluded;
      expect(job.calls).toEqual(['abort', 'clean']);
      expect(job.registry.all).toEqual([]);
      expect(terminal(job)).toEqual(state === 'created' ? [] : ['job-cancelled']);
      expect(job.error).toMatchObject({ kind: 'cancelled', message: 'Operation canceled' });
    },
  );

  it('leaves the pause before it aborts', async () => {
    const job = new ReadyJob();
    job.start();
    job.becomeReady();
    job.pause();
    await settled();
    job.cancel();
    await job.concluded;
    const path = ['created', 'running', 'ready', 'standby', 'ready', 'aborting', 'concluded', 'null'];
    expect(job.states).toEqual(path);
  });

  it('that commits already does not hear of a cancel', async () => {
    const job = new HandJob();
    const cleaning = Promise.withResolvers<void>();
    job.cleaned = cleaning.promise;
    job.start();
    await job.end();
    expect(job.calls).toEqual(['commit', 'clean']);
    job.cancel();
    cleaning.resolve();
    await job.concluded;
    expect(job.calls).toEqual(['commit', 'clean']);
    expect(job.error).toBeUndefined();
  });

  it('concludes also when giving back what it held fails, and says so', async () => {
    const job = new HandJob();
    job.cleaned = Promise.reject(failure());
    job.start();
    await job.end();
    expect(job.states.at(-1)).toBe('null');
    expect(job.error?.message).toBe('Input/output error');
  });

  it('that was never started can be given up without a trace of an end', async () => {
    const job = new HandJob();
    await job.discard();
    expect(job.states).toEqual(['created', 'null']);
    expect(terminal(job)).toEqual([]);
    expect(job.registry.all).toEqual([]);
  });
});

describe('a ready job', () => {
  it('completes with a pivot when told to, in standby once it is resumed', async () => {
    for (const paused of [false, true]) {
      const job = new ReadyJob();
      job.start();
      job.becomeReady();
      if (paused) job.pause();
      await settled();
      job.complete();
      await settled();
      if (paused) {
        expect(job.state).toBe('standby');
        job.resume();
      }
      await job.concluded;
      expect(job.completions).toEqual([{ pivot: true }]);
      expect(job.error).toBeUndefined();
    }
  });

  it('completes where it stands when it is cancelled softly', async () => {
    const job = new ReadyJob();
    job.start();
    job.becomeReady();
    job.cancel({ force: false });
    await job.concluded;
    expect(job.completions).toEqual([{ pivot: false }]);
    expect(terminal(job)).toEqual(['job-completed']);
  });

  it('of a kind without a completion says that it has none', () => {
    const job = new HandJob();
    job.start();
    job.becomeReady();
    expect(() => job.complete()).toThrow("The active block job 'job0' cannot be completed");
  });
});

describe('job ids and speeds', () => {
  it.each(['0id', '', '  ', '123', '_id', '-id', '.id', '#id'])("refuse '%s'", id => {
    expect(() => new HandJob({ id })).toThrow(`Invalid job ID '${id}'`);
  });

  it.each(['id0', 'id_2', 'a.b-c'])("accept '%s'", id => expect(new HandJob({ id }).id).toBe(id));

  it('refuse a negative speed, at the start and later', () => {
    expect(() => new HandJob({ speedBytesPerSecond: -1 })).toThrow(
      "Parameter 'speed' expects a non-negative value",
    );
    const job = new HandJob({ speedBytesPerSecond: 4096 });
    expect(() => job.setSpeed(-1)).toThrow("Parameter 'speed' expects a non-negative value");
    expect(job.info().speedBytesPerSecond).toBe(4096);
  });
});

describe('the registry', () => {
  it('replays events after a sequence number', async () => {
    const job = new HandJob();
    job.start();
    await job.end();
    const all = job.registry.eventsAfter(0);
    expect(all.map(({ sequence }) => sequence)).toEqual(all.map((_, index) => index + 1));
    expect(job.registry.eventsAfter(all[2]!.sequence)).toEqual(all.slice(3));
  });

  it('cancels all, the youngest first, each to its end', async () => {
    const registry = new JobRegistry(new ManualClock());
    const jobs = ['a', 'b', 'c'].map(id => new HandJob({ id, registry }));
    for (const job of jobs) job.start();
    await registry.cancelAll();
    expect(registry.all).toEqual([]);
    const ends = registry.eventsAfter(0).filter(({ event }) => event.type === 'job-cancelled');
    expect(ends.map(({ event }) => event.jobId)).toEqual(['c', 'b', 'a']);
  });
});
