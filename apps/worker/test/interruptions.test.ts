// Goal: whatever interrupts a run, a copy goes on at the same point in time as long as that is kept, and begins anew
// where it is not; and the operator can hold a run's job back, let it go on, and end what has no end of its own.
// Method: a real worker and catalog; storage nodes that lose what they are told to lose.
import { randomUUID } from 'node:crypto';
import type { JsonObject, Run } from '@tidemark/catalog';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Fleet, poll } from './fleet.ts';

let fleet: Fleet;
let clean: Awaited<ReturnType<Fleet['leftovers']>>;

beforeEach(async () => {
  fleet = await Fleet.open();
  await fleet.startWorker();
  await fleet.furnish();
  clean = await fleet.leftovers();
});

afterEach(() => fleet.close());

/** A backup whose job is halfway. */
async function halfway(): Promise<Run> {
  fleet.alpha.holdJobs = true;
  return fleet.until(await fleet.backup('monday'), ({ progress }) => progress.currentBytes > 0);
}

async function eventsOf(run: Run): Promise<string[]> {
  const events = await fleet.catalog.events.listAfter(0, 1000);
  return events.filter(event => event.runId === run.id).map(event => event.kind);
}

describe('a backup', () => {
  test('copies the same moment again when the repository has lost the copy', async () => {
    const run = await halfway();
    fleet.beta.dropPartial(run.backupId!);
    fleet.alpha.holdJobs = false;
    const ended = await fleet.succeed(run);
    expect(fleet.alpha.callsOf('startBackup')).toHaveLength(1);
    expect(fleet.alpha.callsOf('continueBackup').length).toBeGreaterThan(0);
    expect(ended.checkpointAt).toEqual(run.checkpointAt);
    expect(ended.result).toMatchObject({ restarts: 0 });
    expect([fleet.alpha.jobs.size, fleet.alpha.scriptedJobs.moments.size]).toEqual([0, 0]);
  });

  test('copies it again, too, when the copy is lost or damaged before it is published', async () => {
    fleet.beta.fail('publishBackup', 'backup-not-found', { times: 1 });
    fleet.beta.verifications.faults.push({
      code: 'image-invalid',
      message: 'It was not stored as it was sent.',
    });
    fleet.beta.fail('publishBackup', 'image-invalid', { times: 1 });
    const ended = await fleet.succeed(await fleet.backup('monday'));
    expect(fleet.alpha.callsOf('continueBackup')).toHaveLength(3);
    expect(fleet.beta.callsOf('discardBackup')).toHaveLength(2);
    expect(ended.result).toMatchObject({ restarts: 0 });
  });

  test('is cancelled while the repository reads back what it was sent', async () => {
    fleet.beta.holdJobs = true;
    const run = await fleet.backup('monday');
    await poll('the check', async () => fleet.beta.jobs.has(`check-${run.id}`) || undefined);
    await fleet.catalog.runs.requestCancel(run.id);
    expect(await fleet.end(run)).toMatchObject({ state: 'cancelled', cleanupPending: false });
    expect(fleet.beta.jobs.size).toBe(0);
    expect(await fleet.leftovers()).toEqual(clean);
  });

  test('is given up when the repository stays away, and does not keep the moment for it', async () => {
    const run = await halfway();
    fleet.beta.fail('prepareBackup', 'storage-node-unreachable');
    fleet.beta.dropPartial(run.backupId!);
    const ended = await fleet.end(run);
    expect([ended.state, ended.error?.code]).toEqual(['failed', 'storage-node-unreachable']);
    expect(fleet.alpha.scriptedJobs.moments.size).toBe(0);
    expect(await fleet.leftovers()).toEqual(clean);
  });

  test('begins anew, too, when its storage node died before it had answered the start', async () => {
    fleet.alpha.fail('startBackup', 'job-interrupted', { times: 1, afterwards: true });
    const ended = await fleet.succeed(await fleet.backup('monday'));
    expect(ended.result).toMatchObject({ restarts: 1 });
    expect(ended.reason).toMatch(/^full: asked for; from a new point in time, since /);
  });

  test('begins anew from a new point in time when its storage node was restarted, and says so', async () => {
    fleet.alpha.scriptedJobs.grownBytes = 65_536;
    const run = await halfway();
    fleet.alpha.stop();
    fleet.alpha.scriptedJobs.forget();
    fleet.alpha.scriptedJobs.grownBytes = 131_072;
    await fleet.alpha.start();
    fleet.alpha.holdJobs = false;
    const ended = await fleet.succeed(run);
    expect(ended.result).toMatchObject({ restarts: 1, grownBytes: 131_072 });
    expect(ended.reason).toMatch(/^full: asked for; from a new point in time, since /);
    expect(ended.reason, 'of the new point in time alone').toMatch(/[^;]; 131072 bytes in doubt[^;]*$/);
    expect(ended.reason).not.toContain('65536 bytes');
    expect((await fleet.catalog.backups.get(run.backupId!)).reason).toBe(ended.reason);
    expect(fleet.beta.published.get(run.backupId!)?.reason).toBe(ended.reason);
    expect(await eventsOf(run)).toContain('run-started-over');
    expect(fleet.alpha.checkpoints.size).toBe(1);
    expect(fleet.beta.partial.size).toBe(0);
  });

  test('is given up when its moments are lost again and again', async () => {
    fleet.alpha.failJobs({ code: 'moment-lost', message: 'The scratch is full.' });
    const ended = await fleet.end(await fleet.backup('monday'));
    expect([ended.state, ended.error?.code, ended.restarts]).toEqual(['failed', 'moment-lost', 3]);
    expect(fleet.alpha.callsOf('startBackup')).toHaveLength(4);
    expect(await fleet.leftovers()).toEqual(clean);
  });

  test('begins anew, too, when another worker finds the moment lost', async () => {
    const first = await fleet.startWorker();
    const run = await halfway();
    await fleet.stopWorkers();
    expect(first).toBeDefined();
    fleet.alpha.scriptedJobs.forget();
    fleet.alpha.holdJobs = false;
    await fleet.startWorker();
    expect((await fleet.succeed(run)).result).toMatchObject({ restarts: 1 });
  });
});

describe('the job of a run', () => {
  const job = () => [...fleet.alpha.jobs.values()][0];

  test('stands still and goes on, at the speed that was asked for last, with any worker', async () => {
    const run = await halfway();
    await fleet.catalog.runs.requestPause(run.id, true);
    await poll('pause', async () => (job()?.state === 'paused' ? true : undefined));
    fleet.alpha.holdJobs = false;
    await fleet.catalog.runs.requestSpeed(run.id, 4096);
    await poll('speed', async () => (job()?.speedBytesPerSecond === 4096 ? true : undefined));
    await fleet.stopWorkers();
    await fleet.catalog.runs.requestPause(run.id, false);
    await fleet.startWorker();
    expect((await fleet.succeed(run)).speedBytesPerSecond).toBe(4096);
    expect(await eventsOf(run)).toEqual(
      expect.arrayContaining(['run-pause-requested', 'run-speed-requested', 'run-resume-requested']),
    );
    await expect(fleet.catalog.runs.requestPause(run.id, true)).rejects.toMatchObject({ code: 'run-ended' });
  });

  test('is held back again when the moment has to be copied once more', async () => {
    const run = await halfway();
    await fleet.catalog.runs.requestPause(run.id, true);
    await poll('pause', async () => (job()?.state === 'paused' ? true : undefined));
    fleet.beta.dropPartial(run.backupId!);
    const second = await poll('second copy', async () =>
      fleet.alpha.jobs.get(`backup-${run.checkpointId}-2`),
    );
    await poll('pause', async () => (second.state === 'paused' ? true : undefined));
    fleet.alpha.holdJobs = false;
    await fleet.catalog.runs.requestPause(run.id, false);
    await fleet.succeed(run);
  });
});

describe('an export', () => {
  async function open(request: JsonObject = {}): Promise<Run> {
    const ids = { exportId: randomUUID(), checkpointId: randomUUID() };
    const wanted = { ...ids, checkpoint: 'pulled', description: '', dropCheckpointIds: [] };
    const rest = { baseCheckpointId: null, expiresInMs: 60_000, scratchLimitBytes: null };
    const run = await fleet.ask(
      'export',
      { ...wanted, ...rest, ...request },
      async (runId, { id: volumeId }) => {
        await fleet.catalog.checkpoints.create({ id: ids.checkpointId, volumeId, name: 'pulled' }, runId);
      },
    );
    return fleet.until(run, ({ result, state }) => result !== null || state === 'failed');
  }

  test('tells where it is, and leaves its checkpoint when it is finished', async () => {
    const run = await open();
    expect(run.state).toBe('running');
    expect(run.result).toMatchObject({ uri: expect.stringContaining('nbd://') });
    expect(fleet.alpha.scriptedJobs.moments.size).toBe(1);
    await fleet.catalog.runs.requestFinish(run.id);
    const ended = await fleet.succeed(run);
    expect(ended.result).not.toHaveProperty('uri');
    expect(fleet.alpha.scriptedJobs.moments.size).toBe(0);
    expect((await fleet.leftovers()).checkpointRows).toEqual(['pulled']);
  });

  test('leaves nothing when it is cancelled, lost, or open for too long', async () => {
    const cancelled = await open();
    await fleet.catalog.runs.requestCancel(cancelled.id);
    expect((await fleet.end(cancelled)).state).toBe('cancelled');
    const lost = await open();
    fleet.alpha.scriptedJobs.forget();
    expect((await fleet.end(lost)).error?.code).toBe('moment-lost');
    const late = await open({ expiresInMs: 50 });
    expect((await fleet.end(late)).error?.code).toBe('export-expired');
    expect(fleet.alpha.scriptedJobs.moments.size).toBe(0);
    expect(await fleet.leftovers()).toEqual(clean);
  });
});
