// Goal: what storage nodes did although nobody was told, or while the catalog failed, is found, and used or
// undone. Method: a real worker and catalog; answers that get lost, hosts that forget, a catalog that refuses.
import { randomUUID } from 'node:crypto';
import type { Run } from '@tidemark/catalog';
import { inDatabase } from '@tidemark/catalog/testing';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Fleet } from './fleet.ts';

/** Time enough to do something between two attempts. */
const SLOW = { retryDelayMs: 400, retryDelayMaxMs: 400 };
const CLEAN = { partial: [], openBackups: [], jobs: [], volumes: ['disk'], volumeRows: ['disk'] };
const NO_CHECKPOINT = { checkpoints: [], checkpointRows: [], backupRows: [] };
const LOST = { times: 1, afterwards: true };

let fleet: Fleet;

beforeEach(async () => {
  fleet = await Fleet.open();
  await fleet.startWorker(SLOW);
  await fleet.furnish();
});
afterEach(() => fleet.close());

const afterOneFailure = (run: Run) => fleet.until(run, ({ failures }) => failures === 1);

/** Makes the catalog refuse what `condition` names, until the returned function is called. */
async function refuse(event: string, condition: string): Promise<() => Promise<void>> {
  await inDatabase(fleet.database.url, client =>
    client.query(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
      CREATE TRIGGER refuse BEFORE ${event} FOR EACH ROW WHEN (${condition})
      EXECUTE FUNCTION refuse()`),
  );
  return async () => {
    await inDatabase(fleet.database.url, client => client.query('DROP FUNCTION refuse CASCADE'));
  };
}

test('a cancel request after a lost answer ends the job that it started', async () => {
  fleet.alpha.holdJobs = true;
  fleet.alpha.fail('startBackup', 'storage-node-unreachable', LOST);
  const run = await afterOneFailure(await fleet.backup('monday'));
  expect(fleet.alpha.jobs.size).toBe(1);
  await fleet.catalog.runs.requestCancel(run.id);
  const ended = await fleet.end(run);
  expect([ended.state, ended.cleanupPending]).toEqual(['cancelled', false]);
  expect(await fleet.leftovers()).toEqual({ ...CLEAN, ...NO_CHECKPOINT });
});

test('a cancelled restore whose start got lost leaves neither volume nor job', async () => {
  const { backupId, repositoryId } = await fleet.succeed(await fleet.backup('monday'));
  const backup = { backupId: backupId!, repositoryId: repositoryId! };
  fleet.alpha.holdJobs = true;
  fleet.alpha.fail('startRestore', 'storage-node-unreachable', LOST);
  const run = await afterOneFailure(await fleet.restore(backup, { volume: 'copy' }));
  await fleet.catalog.runs.requestCancel(run.id);
  const ended = await fleet.end(run);
  expect([ended.state, ended.cleanupPending]).toEqual(['cancelled', false]);
  expect(await fleet.leftovers()).toMatchObject(CLEAN);
});

test('a cancelled restore over a volume is not begun by its undoing, and the volume is told to be mixed', async () => {
  const { backupId, repositoryId } = await fleet.succeed(await fleet.backup('monday'));
  const backup = { backupId: backupId!, repositoryId: repositoryId! };
  const disk = await fleet.catalog.volumes.get('disk');
  fleet.alpha.holdJobs = true;
  fleet.alpha.fail('startRestore', 'storage-node-unreachable', { times: 1 });
  const run = await afterOneFailure(await fleet.restore(backup, { inPlace: disk }));
  await fleet.catalog.runs.requestCancel(run.id);
  expect(await fleet.end(run)).toMatchObject({ state: 'cancelled', cleanupPending: false });
  expect(fleet.alpha.restores.request, 'nothing was written').toBeUndefined();
  const kinds = (await fleet.catalog.events.listAfter(0, 1000)).map(({ kind }) => kind);
  expect(kinds).toContain('volume-contents-mixed');
  expect(await fleet.leftovers()).toMatchObject(CLEAN);
});

test('a cancelled restore over a volume whose start got through without an answer ends there', async () => {
  const { backupId, repositoryId } = await fleet.succeed(await fleet.backup('monday'));
  const backup = { backupId: backupId!, repositoryId: repositoryId! };
  const disk = await fleet.catalog.volumes.get('disk');
  fleet.alpha.holdJobs = true;
  fleet.alpha.fail('startRestore', 'storage-node-unreachable', LOST);
  const run = await afterOneFailure(await fleet.restore(backup, { inPlace: disk }));
  await fleet.catalog.runs.requestCancel(run.id);
  expect(await fleet.end(run)).toMatchObject({ state: 'cancelled', cleanupPending: false });
  expect(await fleet.leftovers()).toMatchObject(CLEAN);
});

test('a cancelled instant restore does not wait for a stream that may hang', async () => {
  const { backupId, repositoryId } = await fleet.succeed(await fleet.backup('monday'));
  const backup = { backupId: backupId!, repositoryId: repositoryId! };
  fleet.alpha.holdJobs = true;
  fleet.alpha.fail('startRestore', 'storage-node-unreachable', LOST);
  fleet.alpha.fail('cancelJob', 'io-error', { times: 50 });
  const run = await afterOneFailure(await fleet.restore(backup, { instant: 'quick' }));
  await fleet.catalog.runs.requestCancel(run.id);
  const ended = await fleet.end(run);
  expect([ended.state, ended.cleanupPending]).toEqual(['cancelled', false]);
  expect(await fleet.leftovers()).toMatchObject(CLEAN);
});

test('a defect after a start was carried out leaves no job', async () => {
  fleet.alpha.holdJobs = true;
  fleet.alpha.fail('startBackup', 'internal-error', LOST);
  const ended = await fleet.end(await fleet.backup('monday'));
  expect([ended.state, ended.error?.code]).toEqual(['failed', 'internal-error']);
  expect(await fleet.leftovers()).toEqual({ ...CLEAN, ...NO_CHECKPOINT });
});

test('the full backup that replaced an increment goes on when the answer of its start got lost', async () => {
  await fleet.succeed(await fleet.backup('monday'));
  fleet.alpha.holdJobs = true;
  fleet.alpha.fail('startBackup', 'checkpoint-inconsistent', { times: 1 });
  fleet.alpha.fail('startBackup', 'storage-node-unreachable', LOST);
  const run = await afterOneFailure(await fleet.backup('tuesday', 'incremental'));
  await fleet.until(run, ({ steps }) => steps.some(step => step.name === 'copy'));
  fleet.alpha.holdJobs = false;
  await fleet.succeed(run);
  expect(fleet.beta.published.get(run.backupId!)).toMatchObject({ kind: 'full', parentBackupId: '' });
});

test('a start is repeated to a target that is there, also when its host has restarted', async () => {
  fleet.alpha.fail('startBackup', 'storage-node-unreachable', { times: 1 });
  const run = await afterOneFailure(await fleet.backup('monday'));
  fleet.beta.dropPartial(run.backupId!);
  expect((await fleet.succeed(run)).failures).toBe(1);
});

test('a restore is repeated from a source that is there, also when its host has restarted', async () => {
  const { backupId, repositoryId } = await fleet.succeed(await fleet.backup('monday'));
  fleet.alpha.fail('startRestore', 'storage-node-unreachable', { times: 1 });
  const backup = { backupId: backupId!, repositoryId: repositoryId! };
  const run = await afterOneFailure(await fleet.restore(backup, { volume: 'copy' }));
  fleet.beta.dropOpenBackup(backup.backupId);
  expect((await fleet.succeed(run)).failures).toBe(1);
});

test('a copy goes on without its worker while the storage node cannot be reached', async () => {
  fleet.alpha.holdJobs = true;
  const run = await fleet.until(await fleet.backup('monday'), ({ progress }) => progress.currentBytes > 0);
  fleet.alpha.stop();
  await fleet.until(run, ({ failures, state }) => failures > 3 || state === 'failed');
  fleet.alpha.holdJobs = false;
  await fleet.alpha.start();
  await fleet.succeed(run);
  expect(fleet.alpha.callsOf('startBackup')).toHaveLength(1);
});

test('a published backup is not lost to a job that cannot be dismissed', async () => {
  fleet.alpha.fail('dismissJob', 'job-state');
  const run = await fleet.succeed(await fleet.backup('monday'));
  expect((await fleet.catalog.backups.get(run.backupId!)).state).toBe('available');
  expect((await fleet.catalog.checkpoints.get(run.volumeId!, 'monday')).state).toBe('ready');
});

test('a run that the catalog keeps from going on is undone, and its names are free again', async () => {
  await refuse('INSERT ON run_step', "NEW.name = 'copy'");
  const ended = await fleet.end(await fleet.backup('monday'));
  expect([ended.state, ended.error?.code, ended.failures]).toEqual(['failed', 'internal-error', 2]);
  expect(await fleet.leftovers()).toEqual({ ...CLEAN, ...NO_CHECKPOINT });
});

test('a run that had done its work keeps it, whatever the catalog refuses afterwards', async () => {
  await refuse('INSERT ON run_step', "NEW.name = 'finish'");
  const ended = await fleet.end(await fleet.backup('monday'));
  expect([ended.state, ended.error?.code]).toEqual(['failed', 'internal-error']);
  expect((await fleet.catalog.backups.get(ended.backupId!)).state).toBe('available');
  expect((await fleet.catalog.checkpoints.get(ended.volumeId!, 'monday')).state).toBe('ready');
  expect(await fleet.leftovers()).toMatchObject({ partial: [], checkpoints: ['monday'] });
});

test('cleaning up does not change how a run ended, however often it fails', async () => {
  fleet.alpha.holdJobs = true;
  const run = await fleet.until(await fleet.backup('monday'), ({ progress }) => progress.currentBytes > 0);
  fleet.beta.fail('discardBackup', 'storage-node-unreachable');
  await fleet.catalog.runs.requestCancel(run.id);
  const ended = await fleet.end(run);
  expect([ended.state, ended.cleanupPending]).toEqual(['cancelled', true]);
  const permit = await refuse('UPDATE ON run', 'OLD.cleanup_pending AND NOT NEW.cleanup_pending');
  fleet.beta.heal();
  const tried = await fleet.until(run, ({ failures }) => failures > 4);
  expect([tried.state, tried.cleanupPending]).toEqual(['cancelled', true]);
  await permit();
  const cleaned = await fleet.until(run, ({ cleanupPending }) => !cleanupPending);
  expect([cleaned.state, cleaned.error?.code]).toEqual(['cancelled', 'run-cancelled']);
});

test('cleaning up ends when the volume has been deleted meanwhile', async () => {
  fleet.alpha.failJobs({ code: 'io-error', message: 'gone' });
  fleet.alpha.fail('deleteCheckpoint', 'storage-node-unreachable');
  const ended = await fleet.end(await fleet.backup('monday'));
  expect([ended.state, ended.cleanupPending]).toEqual(['failed', true]);
  const volume = await fleet.catalog.volumes.get('disk');
  await fleet.catalog.volumes.delete(volume.id, randomUUID());
  await fleet.until(ended, ({ cleanupPending }) => !cleanupPending);
  const kinds = (await fleet.catalog.events.listAfter(0, 1000)).map(event => event.kind);
  expect(kinds).toContain('run-cleaned-up');
});

test('a commit whose storage node restarted before its start was known begins anew, or says why not', async () => {
  const { id: volumeId } = await fleet.catalog.volumes.get('disk');
  for (const named of [false, true]) {
    const taken = await fleet.succeed(await fleet.snapshot(`snapshot-${named}`));
    await fleet.succeed(await fleet.snapshot(`above-${named}`));
    const base = named ? { baseSnapshotId: String(taken.request.snapshotId) } : {};
    fleet.alpha.fail('startCommit', 'storage-node-unreachable', LOST);
    const run = await afterOneFailure(await fleet.commit(base));
    fleet.alpha.snapshots.forget();
    const ended = await fleet.end(run);
    const commit = await fleet.catalog.commits.get(volumeId, String(run.request.commitId));
    expect(commit.lostSnapshots.map(({ name }) => name)).toEqual([`snapshot-${named}`, `above-${named}`]);
    expect((await fleet.catalog.snapshots.list(volumeId)).items).toEqual([]);
    const outcome = named ? ['failed', 'snapshot-not-found', 'failed'] : ['succeeded', undefined, 'ready'];
    expect([ended.state, ended.error?.code, commit.state]).toEqual(outcome);
    await fleet.catalog.commits.end(commit.id, { state: 'cancelled' }, run.id);
  }
});
