// Goal: neither a killed worker nor a lost queue costs a run, and a worker that was taken for dead changes
// nothing more. Method: real processes that get SIGKILL, queues that are emptied or restarted.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { QUEUE_NAME, type RunPayload, runJobId } from '@tidemark/proto';
import { createQueue } from '@tidemark/proto/queue-connection';
import { afterAll, afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { FAST, Fleet } from './fleet.ts';
import { BACKENDS, type TestQueue } from './queues.ts';
import { redisIsMissing, startRedis } from './redis-server.ts';

const PROCESS = fileURLToPath(new URL('./worker-process.ts', import.meta.url));
/** Of a worker that will die. Long enough to be renewed in time on a machine with much else to do. */
const SHORT_LEASE = { leaseMs: 2_500, renewMs: 200 };

describe.each(BACKENDS)('with the queue in $name', ({ missing, open }) => {
  let queue: TestQueue | undefined;
  let fleet: Fleet;
  let child: ChildProcess | undefined;

  afterAll(() => queue?.stop());

  beforeEach(async ({ skip }) => {
    if (missing) skip(missing);
    queue ??= await open();
    fleet = await Fleet.open(queue.url);
  });

  afterEach(async () => {
    if (child?.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    await fleet?.close();
  });

  async function startProcess(killPoints?: string): Promise<ChildProcess> {
    const { database, queueUrl } = fleet;
    const limits = { ...FAST, ...SHORT_LEASE };
    const options = JSON.stringify({
      databaseUrl: database.url,
      queueUrl,
      concurrency: 4,
      limits,
      killPoints,
    });
    child = spawn(process.execPath, [PROCESS, options], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout!, 'data');
    return child;
  }

  test('a worker that is killed while it copies is replaced by one that goes on', async () => {
    const first = await startProcess();
    await fleet.furnish();
    fleet.alpha.holdJobs = true;
    const run = await fleet.until(await fleet.backup('monday'), ({ progress }) => progress.currentBytes > 0);
    first.kill('SIGKILL');
    await once(first, 'exit');
    await fleet.startWorker();
    const resumed = await fleet.until(run, ({ leaseEpoch }) => leaseEpoch > run.leaseEpoch);
    expect(resumed.leaseOwner).not.toBe(run.leaseOwner);
    fleet.alpha.holdJobs = false;
    const ended = await fleet.succeed(run);
    // The queue gives its job to another worker, or the lease runs out first and it is handed over once more.
    expect([ended.leaseEpoch, ended.failures]).toEqual([2, 0]);
    expect(fleet.alpha.callsOf('startBackup')).toHaveLength(1);
    expect(fleet.beta.callsOf('publishBackup').at(0)?.step?.leaseEpoch).toBe(2);
  });

  test('a worker that is killed before it could claim the run it was given delays it by a lease', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'tidemark-kill-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const first = await startProcess(folder);
    await fleet.furnish();
    await writeFile(join(folder, 'worker.armed'), 'queue job taken 1');
    const run = await fleet.backup('monday');
    await once(first, 'exit');
    expect(await fleet.catalog.runs.get(run.id)).toMatchObject({ state: 'queued', leaseEpoch: 0 });
    const startedAt = performance.now();
    await fleet.startWorker();
    const ended = await fleet.succeed(run);
    expect([ended.leaseEpoch, ended.failures]).toEqual([1, 0]);
    expect(performance.now() - startedAt).toBeLessThan(10_000);
  });

  test('a worker that is killed while it undoes is replaced by one that undoes the rest', async () => {
    const first = await startProcess();
    await fleet.furnish();
    fleet.alpha.holdJobs = true;
    const run = await fleet.until(await fleet.backup('monday'), ({ progress }) => progress.currentBytes > 0);
    fleet.alpha.hang('cancelJob');
    await fleet.catalog.runs.requestCancel(run.id);
    await fleet.until(run, ({ undoing }) => undoing);
    first.kill('SIGKILL');
    await once(first, 'exit');
    fleet.alpha.heal();
    await fleet.startWorker();
    const ended = await fleet.end(run);
    expect([ended.state, ended.error?.code]).toEqual(['cancelled', 'run-cancelled']);
    const left = { partial: [], jobs: [], checkpoints: [], checkpointRows: [], backupRows: [] };
    expect(await fleet.leftovers()).toMatchObject(left);
  });

  test('a worker that only slept is refused afterwards', async () => {
    const sleeper = await startProcess();
    await fleet.furnish();
    fleet.alpha.holdJobs = true;
    const run = await fleet.until(await fleet.backup('monday'), ({ progress }) => progress.currentBytes > 0);
    sleeper.kill('SIGSTOP');
    await fleet.startWorker();
    await fleet.until(run, ({ leaseEpoch }) => leaseEpoch > run.leaseEpoch);
    sleeper.kill('SIGCONT');
    fleet.alpha.holdJobs = false;
    await fleet.succeed(run);
    const published = fleet.beta.callsOf('publishBackup').map(call => call.step?.leaseEpoch);
    expect(published).toEqual([2]);
  });

  test('runs written while nothing worked are found, and an emptied queue is filled again', async () => {
    const joined = await fleet.register('alpha');
    const producer = createQueue<RunPayload>(QUEUE_NAME, { url: fleet.queueUrl });
    const payload = { runId: joined.id, attempt: 1 };
    await producer.add('run', payload, { jobId: runJobId(payload) });
    await producer.obliterate({ force: true });
    await producer.close();
    const volume = await fleet.createVolume('disk');
    await fleet.startWorker();
    const ended = await Promise.all([joined, volume].map(run => fleet.succeed(run)));
    expect(ended.map(run => [run.attempt, run.leaseEpoch])).toEqual([
      [1, 1],
      [1, 1],
    ]);
  });

  test('a queue job that comes twice, or too late, changes nothing', async () => {
    await fleet.startWorker();
    const run = await fleet.succeed(await fleet.register('alpha'));
    const producer = createQueue<RunPayload>(QUEUE_NAME, { url: fleet.queueUrl });
    const payload = { runId: run.id, attempt: 1 };
    await producer.add('run', payload, { jobId: runJobId(payload) });
    await producer.add('run', { runId: 'no id', attempt: 0 });
    const next = await fleet.succeed(await fleet.createVolume('disk'));
    await producer.close();
    expect((await fleet.catalog.runs.get(run.id)).leaseEpoch).toBe(1);
    expect(next.state).toBe('succeeded');
  });
});

test('Redis that is restarted and has lost everything costs no run', async ({ skip }) => {
  const missing = redisIsMissing();
  if (missing !== undefined) skip(missing);
  const redis = await startRedis();
  const fleet = await Fleet.open(redis.url);
  try {
    await fleet.startWorker();
    await fleet.furnish();
    fleet.alpha.holdJobs = true;
    const copying = await fleet.until(
      await fleet.backup('monday'),
      ({ progress }) => progress.currentBytes > 0,
    );
    await redis.restart();
    const waiting = await fleet.createVolume('second');
    fleet.alpha.holdJobs = false;
    await Promise.all([fleet.succeed(copying), fleet.succeed(waiting)]);
  } finally {
    await fleet.close();
    await redis.stop();
  }
});
