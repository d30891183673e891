// Goal: who watches a job hears of its end at once, also when it comes while the last status is still being sent.
// Method: a job that ends when told, and a clock on which no interval ever passes.
import type { Job } from '@tidemark/engine';
import { expect, test } from 'vitest';
import { JobRunner } from './job-runner.ts';

const clock = {
  monotonicMs: () => 0,
  wallMs: () => 0,
  sleep: (_ms: number, signal?: AbortSignal) =>
    new Promise<void>(resolve => {
      if (signal?.aborted) resolve();
      else signal?.addEventListener('abort', () => resolve());
    }),
};

function endableJob() {
  const { promise: concluded, resolve: end } = Promise.withResolvers<void>();
  const info = () => ({ id: 'one', type: 'backup', state: 'running', currentBytes: 0, totalBytes: 0 });
  return { job: { id: 'one', concluded, error: undefined, info } as unknown as Job, end };
}

test.each(['before it is asked for', 'after it is asked for'])(
  'an end that comes %s is heard of',
  async when => {
    const runner = new JobRunner({ clock, report: () => {} });
    const { job, end } = endableJob();
    const record = runner.adopt(job, async () => {});
    const watch = runner.watch('one', new AbortController().signal);
    expect((await watch.next()).value).toMatchObject({ state: 'running' });
    const asked = when.startsWith('after') ? watch.next() : undefined;
    end();
    await record.ended;
    expect((await (asked ?? watch.next())).value).toMatchObject({ state: 'concluded' });
    expect((await watch.next()).done).toBe(true);
  },
);
