// Goal: an audit compares with the newest backup that can be compared with, tells the volume and whoever listens what
// came of it, and leaves nothing open; by itself it comes at its interval.
// Method: a real worker and catalog; storage nodes that say what the test wants.
import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Fleet, poll } from './fleet.ts';

let fleet: Fleet;

beforeEach(async () => {
  fleet = await Fleet.open();
  await fleet.startWorker();
  await fleet.furnish();
});
afterEach(() => fleet.close());

const auditEvents = async () =>
  (await fleet.catalog.events.listAfter(0, 1000)).filter(({ kind }) => /^bitmap/.test(kind));

test('without a backup there is nothing to compare with', async () => {
  const run = await fleet.end(await fleet.audit());
  expect([run.state, run.error?.code]).toEqual(['failed', 'backup-not-found']);
  expect(run.error!.message).toContain('Make a backup first');
});

test('the newest backup whose checkpoint is trusted is taken', async () => {
  const monday = await fleet.succeed(await fleet.backup('monday'));
  const tuesday = await fleet.succeed(await fleet.backup('tuesday', 'incremental'));
  const run = await fleet.succeed(await fleet.audit());
  expect(run.result).toMatchObject({
    ...{ backupId: tuesday.backupId, checkpointId: tuesday.checkpointId },
    ...{ result: 'equal', checkedBytes: 512, cleanBytes: 1024, differing: [] },
  });
  const at = new Date(1_700_000_000_500);
  expect(await fleet.catalog.volumes.get('disk')).toMatchObject({ auditedAt: at, auditResult: 'equal' });
  expect((await auditEvents()).map(({ kind }) => kind)).toEqual(['bitmap-audited']);
  expect(await fleet.leftovers()).toMatchObject({ openBackups: [], jobs: [] });
  expect(await fleet.catalog.backupLeases.holders(tuesday.backupId!)).toEqual([]);
  fleet.alpha.checkpoints.get(tuesday.checkpointId!)!.inconsistent = true;
  const other = await fleet.succeed(await fleet.audit());
  expect(other.result).toMatchObject({ backupId: monday.backupId });
});

test('a difference is an alarm', async () => {
  const { backupId } = await fleet.succeed(await fleet.backup('monday'));
  fleet.alpha.inventory.differing.push({ offset: 65_536, length: 65_536 });
  const { result } = await fleet.succeed(await fleet.audit());
  expect(result).toMatchObject({ result: 'different', differing: [{ offset: 65_536, length: 65_536 }] });
  expect((await fleet.catalog.volumes.get('disk')).auditResult).toBe('different');
  const [event] = await auditEvents();
  expect(event).toMatchObject({ kind: 'bitmap-audit-failed', data: { backupId, result: 'different' } });
  expect(await fleet.leftovers()).toMatchObject({ openBackups: [], jobs: [] });
});

test('one that cannot be started leaves nothing', async () => {
  const { backupId } = await fleet.succeed(await fleet.backup('monday'));
  fleet.alpha.fail('startAudit', 'checkpoint-inconsistent');
  const run = await fleet.end(await fleet.audit());
  expect([run.state, run.error?.code]).toEqual(['failed', 'checkpoint-inconsistent']);
  expect(await fleet.leftovers()).toMatchObject({ openBackups: [], jobs: [] });
  expect(await fleet.catalog.backupLeases.holders(backupId!)).toEqual([]);
});

test('by itself once a backup is old enough, by one of several workers', async () => {
  await fleet.stopWorkers();
  const limits = { auditMs: 1_500, auditLookMs: 30 };
  await fleet.startWorker(limits);
  await fleet.startWorker(limits);
  const audits = async () => (await fleet.catalog.runs.list({ kind: 'audit' })).items;
  expect(await audits()).toEqual([]);
  await fleet.succeed(await fleet.backup('monday'));
  await poll('an audit', async () => ((await audits())[0]?.state === 'succeeded' ? true : undefined));
  expect((await audits()).length).toBe(1);
});

test('one at a time on a storage node, however many volumes are due', async () => {
  const { catalog } = fleet;
  await fleet.stopWorkers();
  await fleet.startWorker();
  await fleet.succeed(await fleet.createVolume('other'));
  await fleet.succeed(await fleet.backup('monday'));
  const { id: volumeId } = await catalog.volumes.get('other');
  const { id: repositoryId } = await catalog.repositories.get('vault');
  const [backupId, checkpointId, runId] = [randomUUID(), randomUUID(), randomUUID()];
  await catalog.checkpoints.create({ id: checkpointId, volumeId, name: 'tuesday' });
  await catalog.checkpoints.markReady(checkpointId, new Date(), runId);
  const about = { volumeId, volumeName: 'other', checkpointId, checkpoint: 'tuesday', parentId: null };
  const facts = { repositoryId, reason: 'full: asked for', sizeBytes: 4096 };
  await catalog.backups.create({ id: backupId, ...about, ...facts });
  const made = { storedBytes: 1, sentBytes: 1, fileName: 'f', compression: 'none' as const };
  await catalog.backups.markStarted(backupId, { pointInTime: new Date(), dirtyBytes: 1 });
  await catalog.backups.markAvailable(backupId, made, runId);
  await fleet.stopWorkers();
  fleet.alpha.hang('startAudit');
  await fleet.startWorker({ auditMs: 300, auditLookMs: 30 });
  const audits = async () => (await catalog.runs.list({ kind: 'audit' })).items;
  // Those of the other one fail at once: its backup is nowhere.
  const isHeld = async () =>
    (await audits()).some(one => one.state === 'running' && one.volumeId !== volumeId);
  await poll('an audit', async () => ((await isHeld()) ? true : undefined));
  const before = (await audits()).length;
  await new Promise(resolve => setTimeout(resolve, 900));
  expect((await audits()).length).toBe(before);
  expect(await isHeld()).toBe(true);
});
