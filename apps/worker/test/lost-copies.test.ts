// Goal: only what was copied whole is published, and the repository's host may restart between any two steps without
// that costing the run. Method: a real worker and catalog; a repository that loses its targets and exports.
import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Fleet, poll } from './fleet.ts';

/** Time enough to do something between two attempts. */
const SLOW = { retryDelayMs: 400, retryDelayMaxMs: 400 };

let fleet: Fleet;

beforeEach(async () => {
  fleet = await Fleet.open();
  await fleet.startWorker(SLOW);
  await fleet.furnish();
});
afterEach(() => fleet.close());

test('a copy that is made again and interrupted is finished before it is published', async () => {
  const { alpha, beta } = fleet;
  beta.fail('publishBackup', 'storage-node-unreachable', { times: 1 });
  const asked = await fleet.backup('monday');
  const run = await fleet.until(asked, ({ failures }) => failures === 1);
  beta.dropPartial(run.backupId!);
  alpha.holdJobs = true;
  const copies = (count: number) =>
    poll('copy', async () => {
      const isPublished = beta.published.size > 0;
      return isPublished || alpha.callsOf('continueBackup').length >= count ? true : undefined;
    });
  await copies(1);
  await fleet.stopWorkers();
  await fleet.startWorker(SLOW);
  await copies(2);
  expect([...beta.published.keys()], 'half of it').toEqual([]);
  alpha.holdJobs = false;
  await fleet.succeed(run);
  expect([...beta.published.keys()]).toEqual([run.backupId]);
});

test('a copy to a target that is gone by the time its start is known is made again', async () => {
  const { alpha, beta } = fleet;
  alpha.fail('startBackup', 'storage-node-unreachable', { times: 1, afterwards: true });
  const asked = await fleet.backup('monday');
  await fleet.until(asked, ({ failures }) => failures === 1);
  await poll('end of copy', async () =>
    [...alpha.jobs.values()].every(({ state }) => state === 'concluded') ? true : undefined,
  );
  beta.dropPartial(asked.backupId!);
  const { result } = await fleet.succeed(asked);
  expect(alpha.callsOf('continueBackup')).toHaveLength(1);
  expect(result, 'who knows it may write there').not.toHaveProperty('targetUri');
});

test('the host of the repository may restart between a target and the first copy to it', async () => {
  const { beta } = fleet;
  beta.afterNext.set('prepareBackup', () => {
    for (const backupId of [...beta.partial.keys()]) beta.dropPartial(backupId);
  });
  const ended = await fleet.succeed(await fleet.backup('monday'));
  expect([ended.failures, ended.result?.restarts]).toEqual([0, 0]);
});

test('it may restart between another target and the copy that goes on to that, too', async () => {
  const { alpha, beta } = fleet;
  alpha.holdJobs = true;
  const run = await fleet.until(await fleet.backup('monday'), ({ progress }) => progress.currentBytes > 0);
  alpha.holdJobs = false;
  beta.afterNext.set('prepareBackup', () => beta.dropPartial(run.backupId!));
  beta.dropPartial(run.backupId!);
  expect((await fleet.succeed(run)).result).toMatchObject({ restarts: 0 });
});

test.each(['volume', 'instant'])('it may restart between an export and the first restore (%s)', async to => {
  const { backupId, repositoryId } = await fleet.succeed(await fleet.backup('monday'));
  const { beta } = fleet;
  beta.afterNext.set('openBackup', () => beta.dropOpenBackup(backupId!));
  const backup = { backupId: backupId!, repositoryId: repositoryId! };
  const target = to === 'volume' ? { volume: 'copy' } : { instant: 'quick' };
  expect((await fleet.succeed(await fleet.restore(backup, target))).failures).toBe(0);
});

test('a cancel request that waits for a publication ends the run when its moment turns out to be lost', async () => {
  const { alpha, beta } = fleet;
  beta.fail('publishBackup', 'storage-node-unreachable', { times: 1 });
  const run = await fleet.until(await fleet.backup('monday'), ({ failures }) => failures === 1);
  await fleet.catalog.runs.requestCancel(run.id);
  beta.dropPartial(run.backupId!);
  alpha.scriptedJobs.forget();
  const ended = await fleet.end(run);
  expect([ended.state, ended.error?.code]).toEqual(['cancelled', 'run-cancelled']);
});

test('damage that is found while a start is repeated is not taken for sent', async () => {
  const { backupId } = await fleet.succeed(await fleet.backup('monday'));
  const places = [0, 1024].map(offset => ({ offset, length: 512 }));
  const runId = randomUUID();
  await fleet.catalog.backupDamage.note(backupId!, places.slice(0, 1), runId);
  fleet.alpha.fail('startBackup', 'storage-node-unreachable', { times: 1, afterwards: true });
  const run = await fleet.until(
    await fleet.backup('tuesday', 'incremental'),
    ({ failures }) => failures === 1,
  );
  await fleet.catalog.backupDamage.note(backupId!, places, runId);
  expect((await fleet.succeed(run)).result).toMatchObject({ resent: places.slice(0, 1) });
  expect(await fleet.catalog.backupDamage.ofChain(run.backupId!)).toEqual(places.slice(1));
});

test('room is asked for what is damaged below, besides what has changed, at most for all there is', async () => {
  const { backupId } = await fleet.succeed(await fleet.backup('monday'));
  const { alpha, beta } = fleet;
  const [disk] = alpha.volumes.values();
  const rooms = async (checkpoint: string, lengths: number[], allocatedBytes: number) => {
    disk!.allocatedBytes = allocatedBytes;
    const places = lengths.map((length, index) => ({ offset: index * 1024, length }));
    await fleet.catalog.backupDamage.note(backupId!, places, randomUUID());
    beta.expectedBytes.length = 0;
    await fleet.succeed(await fleet.backup(checkpoint, 'incremental'));
    return [...new Set(beta.expectedBytes)];
  };
  const changed = await rooms('tuesday', [], 4096);
  expect(changed).toHaveLength(1);
  expect(await rooms('wednesday', [512, 512], 4096)).toEqual([changed[0]! + 1024]);
  await fleet.catalog.backupDamage.note(backupId!, [{ offset: 2048, length: 512 }], randomUUID());
  expect(await rooms('thursday', [512, 512, 512], 256)).toEqual([256]);
});

/** A worker that has to go on with a copy that an earlier one began. */
async function takeOver(limits: Parameters<Fleet['startWorker']>[0]) {
  fleet.alpha.holdJobs = true;
  const run = await fleet.until(await fleet.backup('monday'), ({ progress }) => progress.currentBytes > 0);
  await fleet.stopWorkers();
  fleet.alpha.holdJobs = false;
  return { run, goOn: () => fleet.startWorker({ retryDelayMs: 20, retryDelayMaxMs: 20, ...limits }) };
}

test('a host of the repository that reboots costs a copy nothing, however often it is asked for', async () => {
  const { run, goOn } = await takeOver({ patientFailuresMax: 5, targetAwayMs: 60_000 });
  fleet.beta.fail('prepareBackup', 'storage-node-unreachable', { times: 12 });
  await goOn();
  const ended = await fleet.succeed(run);
  expect([ended.failures, ended.result?.restarts]).toEqual([12, 0]);
});

test('one that stays away ends the copy when its time is up', async () => {
  const { run, goOn } = await takeOver({ targetAwayMs: 2_000 });
  fleet.beta.fail('prepareBackup', 'storage-node-unreachable');
  await goOn();
  await fleet.until(run, ({ failures }) => failures > 0);
  const before = performance.now();
  const ended = await fleet.until(run, ({ undoing }) => undoing);
  expect(performance.now() - before).toBeGreaterThan(1_000);
  expect(ended.error?.code).toBe('storage-node-unreachable');
  fleet.beta.heal();
  expect((await fleet.end(run)).state).toBe('failed');
});

test('failures that a run has got over do not count against its later steps', async () => {
  fleet.beta.fail('prepareBackup', 'storage-node-unreachable', { times: 2 });
  fleet.alpha.fail('startBackup', 'storage-node-unreachable', { times: 2 });
  expect((await fleet.succeed(await fleet.backup('monday'))).failures).toBe(4);
});

test('nor do those before the last bytes moved', async () => {
  const { alpha } = fleet;
  const { run, goOn } = await takeOver({ patientFailuresMax: 3, retryDelayMs: 300, retryDelayMaxMs: 300 });
  alpha.holdJobs = true;
  await goOn();
  for (let outages = 1; outages <= 4; outages++) {
    await poll('watch', async () => (alpha.callsOf('continueBackup').length >= outages ? true : undefined));
    const [job] = alpha.jobs.values();
    await new Promise(resolve => setTimeout(resolve, 60));
    job!.currentBytes += 1;
    const { currentBytes } = job!;
    await fleet.until(run, ({ progress }) => progress.currentBytes === currentBytes);
    alpha.stop();
    await fleet.until(run, ({ failures, state }) => failures === outages || state === 'failed');
    await alpha.start();
  }
  alpha.holdJobs = false;
  expect((await fleet.succeed(run)).failures).toBe(4);
});
