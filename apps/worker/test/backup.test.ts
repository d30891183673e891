// Goal: a backup run ends with a published backup and a ready checkpoint, or with nothing of either, whatever
// fails and when. Method: a real worker, catalog and queue; storage nodes that fail on command.
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Fleet, poll, VOLUME_BYTES } from './fleet.ts';
import { BACKENDS, type TestQueue } from './queues.ts';

describe.each(BACKENDS)('with the queue in $name', ({ missing, open }) => {
  let queue: TestQueue | undefined;
  let fleet: Fleet;

  afterAll(() => queue?.stop());

  beforeEach(async ({ skip }) => {
    if (missing) skip(missing);
    queue ??= await open();
    fleet = await Fleet.open(queue.url);
    await fleet.startWorker();
    await fleet.furnish();
  });
  afterEach(() => fleet?.close());

  const clean = {
    partial: [],
    openBackups: [],
    jobs: [],
    checkpoints: [],
    checkpointRows: [],
    backupRows: [],
    volumes: ['disk'],
    volumeRows: ['disk'],
  };

  test('a full backup is published, and its checkpoint is ready', async () => {
    const run = await fleet.succeed(await fleet.backup('monday'));
    expect(run.steps.map(step => [step.name, step.state])).toEqual(
      ['prepare-target', 'start', 'copy', 'check', 'publish', 'drop-checkpoints', 'finish'].map(name => [
        name,
        'succeeded',
      ]),
    );
    const sentBytes = VOLUME_BYTES / 2;
    expect(run.progress).toEqual({
      currentBytes: VOLUME_BYTES,
      totalBytes: VOLUME_BYTES,
      sentBytes,
      dirtyBytes: VOLUME_BYTES,
    });
    expect(run.checkpointAt?.getTime()).toBe(1_700_000_000_000);
    const backup = await fleet.catalog.backups.get(run.backupId!);
    expect(backup).toMatchObject({
      state: 'available',
      kind: 'full',
      reason: 'full: asked for',
      storedBytes: 512,
      sentBytes,
      dirtyBytes: VOLUME_BYTES,
      fileName: `${backup.id}.qcow2`,
    });
    const checkpoint = await fleet.catalog.checkpoints.get(run.volumeId!, 'monday');
    expect(checkpoint).toMatchObject({ state: 'ready', backups: [backup.id] });
    expect(fleet.beta.published.get(backup.id)).toMatchObject({ kind: 'full', checkpointName: 'monday' });
    expect(await fleet.leftovers()).toMatchObject({ partial: [], jobs: [] });
  });

  test('an incremental backup stands on the newest checkpoint that has a backup there', async () => {
    await fleet.succeed(await fleet.backup('monday'));
    const tuesday = await fleet.succeed(await fleet.backup('tuesday', 'incremental'));
    const wednesday = await fleet.succeed(await fleet.backup('wednesday', 'incremental'));
    const backup = await fleet.catalog.backups.get(wednesday.backupId!);
    expect(backup).toMatchObject({
      kind: 'incremental',
      parentId: tuesday.backupId,
      reason: "incremental: since checkpoint 'tuesday'",
      dirtyBytes: VOLUME_BYTES / 4,
    });
    expect(fleet.beta.published.get(backup.id)?.parentBackupId).toBe(tuesday.backupId);
  });

  test('bytes that are in doubt since a crash are named, once', async () => {
    await fleet.succeed(await fleet.backup('monday'));
    fleet.alpha.scriptedJobs.grownBytes = 65_536;
    fleet.alpha.fail('startBackup', 'storage-node-unreachable', { times: 1, afterwards: true });
    const run = await fleet.succeed(await fleet.backup('tuesday', 'incremental'));
    const reason =
      "incremental: since checkpoint 'monday'; 65536 bytes in doubt since a crash are copied, too";
    expect(run.reason).toBe(reason);
    expect(await fleet.catalog.backups.get(run.backupId!)).toMatchObject({ reason });
    fleet.alpha.scriptedJobs.grownBytes = 0;
  });

  test('a base whose changes are not known makes it full, and the reason says why', async () => {
    await fleet.succeed(await fleet.backup('monday'));
    fleet.alpha.fail('startBackup', 'checkpoint-inconsistent', { times: 1 });
    const run = await fleet.succeed(await fleet.backup('tuesday', 'incremental'));
    expect(run.reason).toMatch(/^full: .*not known/);
    const backup = await fleet.catalog.backups.get(run.backupId!);
    expect(backup).toMatchObject({
      kind: 'full',
      parentId: null,
      reason: run.reason,
      dirtyBytes: VOLUME_BYTES,
    });
    expect(fleet.beta.published.get(backup.id)).toMatchObject({ kind: 'full', parentBackupId: '' });
    expect(fleet.beta.partial.size).toBe(0);
  });

  test.each([
    ['prepareBackup', 'beta', 'repository-full'],
    ['startBackup', 'alpha', 'volume-busy'],
    ['publishBackup', 'beta', 'repository-full'],
  ] as const)('a %s refused for good leaves nothing', async (method, node, code) => {
    fleet[node].fail(method, code);
    const run = await fleet.end(await fleet.backup('monday'));
    expect([run.state, run.error?.code, run.failures]).toEqual(['failed', code, 0]);
    expect(run.error?.message).toContain(method);
    expect(await fleet.leftovers()).toEqual(clean);
  });

  test('a job that fails leaves nothing, and is not watched again', async () => {
    const error = { code: 'io-error', message: 'The target cannot be written.' } as const;
    fleet.alpha.failJobs(error);
    const run = await fleet.end(await fleet.backup('monday'));
    expect([run.state, run.error]).toEqual(['failed', error]);
    expect(run.steps.map(step => step.state)).toEqual(['undone', 'undone', 'undone']);
    expect(await fleet.leftovers()).toEqual(clean);
  });

  test('a storage node that is away while a copied backup is published does not cost it', async () => {
    fleet.beta.fail('publishBackup', 'storage-node-unreachable', { times: 5 });
    const run = await fleet.succeed(await fleet.backup('monday'));
    expect(run.failures).toBe(5);
  });

  test.each(['prepareBackup', 'startBackup', 'publishBackup', 'releaseMoment'] as const)(
    'a lost answer of %s is asked for again, and nothing happens twice',
    async method => {
      const node = method === 'startBackup' || method === 'releaseMoment' ? fleet.alpha : fleet.beta;
      node.fail(method, 'storage-node-unreachable', { times: 1, afterwards: true });
      const run = await fleet.succeed(await fleet.backup('monday'));
      expect([run.attempt, run.failures]).toEqual([2, 1]);
      expect(node.callsOf(method).map(call => call.step?.leaseEpoch)).toEqual([1, 2]);
      // A start of a later attempt asks for its target anew, one that follows at once uses what it was given.
      const isAnew = method === 'prepareBackup' || method === 'startBackup';
      const prepared = fleet.beta.callsOf('prepareBackup').map(call => call.step?.leaseEpoch);
      expect(prepared).toEqual(isAnew ? [1, 2] : [1]);
      expect([fleet.alpha.checkpoints.size, fleet.beta.published.size, fleet.alpha.jobs.size]).toEqual([
        1, 1, 0,
      ]);
    },
  );

  test('a start whose answer never came is settled before it is undone', async () => {
    fleet.alpha.fail('startBackup', 'storage-node-unreachable', { times: 3, afterwards: true });
    fleet.alpha.holdJobs = true;
    const run = await fleet.end(await fleet.backup('monday'));
    expect([run.state, run.error?.code]).toEqual(['failed', 'storage-node-unreachable']);
    expect(await fleet.leftovers()).toEqual(clean);
  });

  test('a storage node that is down is named, and the names are free again', async () => {
    fleet.beta.stop();
    const run = await fleet.end(await fleet.backup('monday'));
    expect([run.state, run.error?.code]).toEqual(['failed', 'storage-node-unreachable']);
    expect(run.error?.message).toContain('beta');
    expect(await fleet.leftovers()).toEqual(clean);
  });

  test('what a storage node still holds is undone when it is back', async () => {
    fleet.alpha.failJobs({ code: 'io-error', message: 'gone' });
    fleet.beta.fail('discardBackup', 'storage-node-unreachable');
    const ended = await fleet.end(await fleet.backup('monday'));
    expect([ended.state, ended.cleanupPending, fleet.beta.partial.size]).toEqual(['failed', true, 1]);
    fleet.beta.heal();
    const run = await fleet.until(ended, ({ cleanupPending }) => !cleanupPending);
    expect([run.state, run.error?.code]).toEqual(['failed', 'io-error']);
    expect(await fleet.leftovers()).toEqual(clean);
  });

  test('a cancel request ends the copy and leaves nothing', async () => {
    fleet.alpha.holdJobs = true;
    const run = await fleet.until(await fleet.backup('monday'), ({ progress }) => progress.currentBytes > 0);
    expect(run.checkpointAt).not.toBeNull();
    await fleet.catalog.runs.requestCancel(run.id);
    const ended = await fleet.end(run);
    expect([ended.state, ended.error?.code]).toEqual(['cancelled', 'run-cancelled']);
    expect(await fleet.leftovers()).toEqual(clean);
    await expect(fleet.catalog.runs.requestCancel(run.id)).rejects.toMatchObject({ code: 'run-ended' });
  });

  test('a worker that stops hands the copy over as it is', async () => {
    fleet.alpha.holdJobs = true;
    const first = await fleet.startWorker();
    const run = await fleet.until(await fleet.backup('monday'), ({ progress }) => progress.currentBytes > 0);
    await fleet.stopWorker(first);
    await fleet.startWorker();
    fleet.alpha.holdJobs = false;
    const ended = await fleet.succeed(run);
    expect(fleet.alpha.callsOf('startBackup')).toHaveLength(1);
    expect(ended.failures).toBe(0);
  });

  test('what happened is told in order', async () => {
    const run = await fleet.succeed(await fleet.backup('monday'));
    const events = await poll('events', async () => fleet.catalog.events.listAfter(0, 1000));
    const kinds = events.filter(event => event.runId === run.id).map(event => event.kind);
    expect(kinds).toEqual([
      'run-queued',
      'run-claimed',
      'run-checkpoint-reached',
      'checkpoint-ready',
      'backup-available',
      'run-succeeded',
    ]);
  });
});
