// Goal: every kind of restore ends as it says, tells what was damaged, and lets go of its backup when nothing reads it
// any more, not before. Method: a real worker and catalog; storage nodes that fail on command.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Fleet, poll, VOLUME_BYTES } from './fleet.ts';

let fleet: Fleet;
let backup: { backupId: string; repositoryId: string };

beforeEach(async () => {
  fleet = await Fleet.open();
  await fleet.startWorker();
  await fleet.furnish();
  const { backupId, repositoryId } = await fleet.succeed(await fleet.backup('monday'));
  backup = { backupId: backupId!, repositoryId: repositoryId! };
});
afterEach(() => fleet.close());

const DAMAGE = { bytes: 65_536, ranges: [{ offset: 131_072, length: 65_536 }], truncated: false };
const holders = async () =>
  (await fleet.catalog.backupLeases.holders(backup.backupId)).map(({ holder }) => holder);
const eventKinds = async () => (await fleet.catalog.events.listAfter(0, 1000)).map(({ kind }) => kind);
const volumeReady = (name: string) =>
  poll(`volume ${name}`, async () => {
    const volume = await fleet.catalog.volumes.find(name);
    return volume?.state === 'ready' ? volume : undefined;
  });

test('a restored volume begins with the checkpoint of its backup', async () => {
  const run = await fleet.succeed(await fleet.restore(backup, { volume: 'copy' }));
  const checkpoint = await fleet.catalog.checkpoints.get(run.volumeId!, 'monday');
  expect(checkpoint).toMatchObject({ state: 'ready', originBackupId: backup.backupId });
  expect(checkpoint.pointInTime?.getTime()).toBe(1_700_000_000_000);
  const origin = await fleet.catalog.backups.findOrigin(run.volumeId!, backup.repositoryId);
  expect(origin).toMatchObject({ backup: { id: backup.backupId }, checkpointId: checkpoint.id });
  expect(await holders()).toEqual([]);
});

test('an instant volume is ready while its backup is pulled, and holds that until then', async () => {
  fleet.alpha.holdJobs = true;
  const started = await fleet.restore(backup, { instant: 'quick' });
  const volume = await volumeReady('quick');
  expect(volume).toMatchObject({ sourceBackupId: backup.backupId, exportUri: 'nbd://127.0.0.1:10809/quick' });
  expect((await fleet.catalog.checkpoints.get(volume.id, 'monday')).state).toBe('ready');
  // Not the run, but the volume has the backup open, for as long as it needs it.
  const openers = fleet.beta.callsOf('openBackup').map(({ step }) => step?.runId);
  expect(new Set(openers)).toEqual(new Set([volume.id]));
  expect((await holders()).sort()).toEqual(['run', 'volume']);
  // A cancel request comes too late.
  await fleet.catalog.runs.requestCancel(started.id);
  await new Promise(resolve => setTimeout(resolve, 200));
  expect((await fleet.catalog.runs.get(started.id)).state).toBe('running');
  fleet.alpha.holdJobs = false;
  const run = await fleet.succeed(started);
  expect(run.result).toMatchObject({ volumeId: volume.id, state: 'complete', damage: null });
  expect((await fleet.catalog.volumes.get('quick')).sourceBackupId).toBeNull();
  expect(await holders()).toEqual([]);
  expect(fleet.beta.callsOf('closeBackup').map(({ step }) => step?.runId)).toEqual([volume.id]);
  expect(await fleet.leftovers()).toMatchObject({ openBackups: [], jobs: [] });
  expect(await eventKinds()).toContain('volume-stands-alone');
});

test('an instant volume that is deleted lets go of its backup', async () => {
  fleet.alpha.holdJobs = true;
  const started = await fleet.restore(backup, { instant: 'quick' });
  const { id, name, storageNodeId } = await volumeReady('quick');
  const remove = await fleet.catalog.transaction(async catalog => {
    const request = { volumeId: id, name, storageNodeId };
    const run = await catalog.runs.create({
      id: crypto.randomUUID(),
      kind: 'delete-volume',
      volumeId: id,
      request,
    });
    await catalog.volumes.markDeleting(id, run.id);
    return run;
  });
  await fleet.succeed(remove);
  const run = await fleet.succeed(started);
  expect(run.state).toBe('succeeded');
  expect(await holders()).toEqual([]);
  expect(await fleet.leftovers()).toMatchObject({ openBackups: [], volumes: ['disk'], volumeRows: ['disk'] });
});

test('an instant restore that cannot start leaves nothing', async () => {
  fleet.alpha.fail('startRestore', 'storage-full');
  const run = await fleet.end(await fleet.restore(backup, { instant: 'quick' }));
  expect([run.state, run.error?.code]).toEqual(['failed', 'storage-full']);
  expect(await holders()).toEqual([]);
  expect(await fleet.leftovers()).toMatchObject({ openBackups: [], volumes: ['disk'], volumeRows: ['disk'] });
});

test('damage is told and kept, and the next backup on it knows what to send again', async () => {
  fleet.alpha.restores.damageOfNext = DAMAGE;
  const run = await fleet.succeed(await fleet.restore(backup, { file: 'disk.raw' }));
  expect(run.result).toMatchObject({ state: 'complete-with-holes', damage: DAMAGE });
  expect(await eventKinds()).toEqual(
    expect.arrayContaining(['restore-complete-with-holes', 'backup-damaged']),
  );
  const { backupDamage } = fleet.catalog;
  expect(await backupDamage.ofChain(backup.backupId)).toEqual(DAMAGE.ranges);
  await backupDamage.note(backup.backupId, [{ offset: 196_608, length: 65_536 }], run.id);
  expect(await backupDamage.ofChain(backup.backupId)).toEqual([{ offset: 131_072, length: 131_072 }]);
  expect(fleet.alpha.restores.request).toMatchObject({ skipDamage: true });
  const { backupId: tuesday } = await fleet.succeed(await fleet.backup('tuesday', 'incremental'));
  expect(fleet.alpha.scriptedJobs.backupRequest?.also).toEqual([{ offset: 131_072, length: 131_072 }]);
  // From here on the chain is sound.
  expect(await backupDamage.ofChain(tuesday!)).toEqual([]);
  expect(await backupDamage.ofChain(backup.backupId)).not.toEqual([]);
});

test('a restore that may not have holes is asked for so', async () => {
  fleet.alpha.failJobs({ code: 'backup-damaged', message: 'The backup is damaged.' });
  const run = await fleet.end(await fleet.restore(backup, { volume: 'copy' }, 'fail'));
  expect([run.state, run.error?.code]).toEqual(['failed', 'backup-damaged']);
  expect(fleet.alpha.restores.request).toMatchObject({ skipDamage: false });
});

test('a restore over a volume tells what moved, and when it fails that the contents are mixed', async () => {
  const disk = await fleet.catalog.volumes.get('disk');
  const run = await fleet.succeed(await fleet.restore(backup, { inPlace: disk }));
  expect(run.result).toEqual({
    ...{ backupId: backup.backupId, volumeId: disk.id, state: 'complete', damage: null },
    ...{ differingBytes: VOLUME_BYTES, sentBytes: VOLUME_BYTES / 2 },
  });
  expect(fleet.alpha.restores.request?.target).toMatchObject({
    $case: 'inPlace',
    value: { volumeId: disk.id },
  });
  fleet.alpha.failJobs({ code: 'io-error', message: 'The disk broke.' });
  const failed = await fleet.end(await fleet.restore(backup, { inPlace: disk }));
  expect(failed.error).toMatchObject({ code: 'io-error', message: expect.stringContaining('mixture') });
  expect(await eventKinds()).toContain('volume-contents-mixed');
  const mixedWithBackupId = backup.backupId;
  expect(await fleet.catalog.volumes.get('disk')).toMatchObject({ state: 'ready', mixedWithBackupId });
  fleet.alpha.failJobs(undefined);
  await fleet.succeed(await fleet.restore(backup, { inPlace: disk }));
  expect(await fleet.catalog.volumes.get('disk')).toMatchObject({ mixedWithBackupId: null });
});
