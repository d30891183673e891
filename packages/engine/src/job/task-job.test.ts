// Goal: work that a caller brings is paused, limited and cancelled as any job. Method: a job of a few steps.
import { expect, test } from 'vitest';
import { systemClock } from '../clock.ts';
import { JobRegistry } from './job-registry.ts';
import { TaskJob, type TaskJobOptions } from './task-job.ts';

function start(options: Partial<TaskJobOptions> & Pick<TaskJobOptions, 'work'>): TaskJob {
  const job = new TaskJob({ id: 'task', type: 'verify', clock: systemClock, ...options });
  new JobRegistry(systemClock).add(job);
  job.start();
  return job;
}

test('it runs to its end, shows how far it is, and gives back what it holds', async () => {
  let cleaned = false;
  const job = start({
    work: async ({ progress, pace }) => {
      progress.totalBytes = 30;
      for (let step = 0; step < 3; step++) {
        progress.currentBytes += 10;
        await pace(10);
      }
    },
    clean: async () => {
      cleaned = true;
    },
  });
  await job.concluded;
  expect(job.error).toBeUndefined();
  expect([job.progress().currentBytes, cleaned]).toEqual([30, true]);
});

test('paused it stands still, cancelled it ends between two steps', async () => {
  let steps = 0;
  const job = start({
    work: async ({ pace }) => {
      for (;;) {
        steps++;
        await pace(1);
        await new Promise(resolve => setTimeout(resolve, 1));
      }
    },
  });
  await expect.poll(() => steps).toBeGreaterThan(2);
  job.pause();
  await expect.poll(() => job.state).toBe('paused');
  const before = steps;
  await new Promise(resolve => setTimeout(resolve, 20));
  expect(steps).toBe(before);
  job.resume();
  await expect.poll(() => steps).toBeGreaterThan(before);
  job.cancel();
  await job.concluded;
  expect(job.error).toMatchObject({ kind: 'cancelled' });
});

test('it keeps to its speed', async () => {
  const begun = performance.now();
  const job = start({
    speedBytesPerSecond: 1000,
    work: async ({ pace }) => {
      for (let step = 0; step < 3; step++) await pace(100);
    },
  });
  await job.concluded;
  expect(performance.now() - begun).toBeGreaterThan(200);
});
