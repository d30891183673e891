// Goal: each kind of run does its work, and a failure leaves the catalog and the storage nodes as they were.
// Method: a real worker and catalog; storage nodes that fail on command.
import { randomUUID } from 'node:crypto';
import { inDatabase } from '@tidemark/catalog/testing';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { FAST, Fleet, poll, VOLUME_BYTES } from './fleet.ts';

let fleet: Fleet;

beforeEach(async () => {
  fleet = await Fleet.open();
  await fleet.startWorker();
});
afterEach(() => fleet.close());

test('a storage node joins with what it says of itself', async () => {
  await fleet.succeed(await fleet.register('alpha'));
  expect(await fleet.catalog.storageNodes.get('alpha')).toMatchObject({
    state: 'online',
    nbdAddress: '127.0.0.1:10809',
    capacityBytes: 1000,
    availableBytes: 900,
    version: '1',
  });
});

test('a storage node that does not answer does not join', async () => {
  fleet.alpha.stop();
  const run = await fleet.end(await fleet.register('alpha'));
  expect([run.state, run.error?.code]).toEqual(['failed', 'storage-node-unreachable']);
  expect(await fleet.catalog.storageNodes.find('alpha')).toBeNull();
});

test('the same storage node does not join under two names', async () => {
  await fleet.succeed(await fleet.register('alpha'));
  const storageNodeId = randomUUID();
  const wanted = { name: 'again', controlAddress: fleet.alpha.address.replace('127.0.0.1', 'localhost') };
  await fleet.catalog.storageNodes.create({ id: storageNodeId, ...wanted });
  const run = await fleet.catalog.runs.create({
    id: randomUUID(),
    kind: 'register-storage-node',
    request: { storageNodeId, ...wanted },
  });
  const ended = await fleet.end(run);
  expect([ended.state, ended.error?.code]).toEqual(['failed', 'storage-node-address-taken']);
  expect(await fleet.catalog.storageNodes.find('again')).toBeNull();
});

test('a storage node leaves when nothing lives on it, also when it is gone', async () => {
  await fleet.furnish();
  const remove = (storageNodeId: string, name: string) =>
    fleet.catalog.runs.create({
      id: randomUUID(),
      kind: 'remove-storage-node',
      request: { storageNodeId, name },
    });
  const refused = await fleet.end(await remove(fleet.nodeIds.alpha, 'alpha'));
  expect([refused.state, refused.error?.code]).toEqual(['failed', 'storage-node-in-use']);
  await fleet.catalog.volumes.delete((await fleet.catalog.volumes.get('disk')).id, null);
  fleet.alpha.stop();
  await fleet.succeed(await remove(fleet.nodeIds.alpha, 'alpha'));
  expect(await fleet.catalog.storageNodes.find('alpha')).toBeNull();
});

test('a volume is ready once its storage node has it', async () => {
  await fleet.furnish();
  const exportUri = 'nbd://127.0.0.1:10809/disk';
  expect(await fleet.catalog.volumes.get('disk')).toMatchObject({ state: 'ready', exportUri });
});

test('a volume that cannot be made leaves its name free', async () => {
  await fleet.furnish();
  fleet.alpha.fail('createVolume', 'storage-full');
  const run = await fleet.end(await fleet.createVolume('second'));
  expect([run.state, run.error?.code]).toEqual(['failed', 'storage-full']);
  expect(await fleet.leftovers()).toMatchObject({ volumes: ['disk'], volumeRows: ['disk'] });
  fleet.alpha.heal();
  await fleet.succeed(await fleet.createVolume('second'));
});

test('a repository that cannot be made leaves its name free', async () => {
  await fleet.furnish();
  fleet.beta.fail('createRepository', 'storage-full');
  const run = await fleet.end(await fleet.createRepository('second'));
  expect([run.state, run.error?.code]).toEqual(['failed', 'storage-full']);
  expect(await fleet.catalog.repositories.find('second')).toBeNull();
});

test('a volume goes, and comes back to ready when its storage node refuses', async () => {
  await fleet.furnish();
  const remove = () =>
    fleet.ask('delete-volume', {}, (runId, volume) => fleet.catalog.volumes.markDeleting(volume.id, runId));
  fleet.alpha.fail('deleteVolume', 'volume-busy', { times: 1 });
  const refused = await fleet.end(await remove());
  expect([refused.state, refused.error?.code]).toEqual(['failed', 'volume-busy']);
  expect((await fleet.catalog.volumes.get('disk')).state).toBe('ready');
  await fleet.succeed(await remove());
  expect(await fleet.leftovers()).toMatchObject({ volumes: [], volumeRows: [] });
});

test('a checkpoint comes and goes', async () => {
  await fleet.furnish();
  const checkpointId = randomUUID();
  const create = await fleet.ask(
    'create-checkpoint',
    { checkpointId, name: 'noon' },
    async (_runId, volume) => {
      await fleet.catalog.checkpoints.create({ id: checkpointId, volumeId: volume.id, name: 'noon' });
    },
  );
  const created = await fleet.succeed(create);
  expect(created.checkpointAt?.getTime()).toBe(1_700_000_000_000);
  expect((await fleet.catalog.checkpoints.get(created.volumeId!, 'noon')).state).toBe('ready');
  const remove = () =>
    fleet.ask('delete-checkpoint', { checkpointId, name: 'noon' }, runId =>
      fleet.catalog.checkpoints.markDeleting(checkpointId, runId),
    );
  fleet.alpha.fail('deleteCheckpoint', 'volume-busy', { times: 1 });
  expect((await fleet.end(await remove())).error?.code).toBe('volume-busy');
  expect((await fleet.catalog.checkpoints.get(created.volumeId!, 'noon')).state).toBe('ready');
  await fleet.succeed(await remove());
  expect(await fleet.leftovers()).toMatchObject({ checkpoints: [], checkpointRows: [] });
});

test('a deletion that was done, and whose storage node then stays away, does not count as failed', async () => {
  await fleet.furnish();
  const { id: volumeId } = await fleet.catalog.volumes.get('disk');
  const checkpointId = randomUUID();
  const create = await fleet.ask('create-checkpoint', { checkpointId, name: 'noon' }, async () => {
    await fleet.catalog.checkpoints.create({ id: checkpointId, volumeId, name: 'noon' });
  });
  await fleet.succeed(create);
  const deletions = [
    [
      'deleteCheckpoint',
      () =>
        fleet.ask('delete-checkpoint', { checkpointId, name: 'noon' }, runId =>
          fleet.catalog.checkpoints.markDeleting(checkpointId, runId),
        ),
    ],
    [
      'deleteVolume',
      () =>
        fleet.ask('delete-volume', {}, (runId, volume) =>
          fleet.catalog.volumes.markDeleting(volume.id, runId),
        ),
    ],
  ] as const;
  for (const [method, ask] of deletions) {
    fleet.alpha.fail(method, 'storage-node-unreachable', { times: 1, afterwards: true });
    fleet.alpha.fail(method, 'storage-node-unreachable', { times: FAST.failuresMax + 2 });
    await fleet.succeed(await ask());
  }
  expect(await fleet.leftovers()).toMatchObject({ volumes: [], volumeRows: [], checkpointRows: [] });
});

async function backedUp(): Promise<{ backupId: string; repositoryId: string }> {
  await fleet.furnish();
  const { backupId, repositoryId } = await fleet.succeed(await fleet.backup('monday'));
  return { backupId: backupId!, repositoryId: repositoryId! };
}

test('a restore to a new volume ends with a ready one', async () => {
  const backup = await backedUp();
  const run = await fleet.succeed(await fleet.restore(backup, { volume: 'copy' }));
  expect(run.progress).toMatchObject({ currentBytes: VOLUME_BYTES, totalBytes: VOLUME_BYTES });
  const volume = await fleet.catalog.volumes.get('copy');
  expect(volume).toMatchObject({
    state: 'ready',
    sizeBytes: VOLUME_BYTES,
    exportUri: 'nbd://127.0.0.1:10809/copy',
  });
  const about = { backupId: backup.backupId, volumeId: volume.id, exportUri: volume.exportUri };
  expect(run.result).toEqual({ ...about, state: 'complete', damage: null });
  expect(await fleet.leftovers()).toMatchObject({ openBackups: [], jobs: [] });
});

test('a restore to a file tells where it is', async () => {
  const backup = await backedUp();
  const run = await fleet.succeed(await fleet.restore(backup, { file: 'disk.raw' }));
  const about = { backupId: backup.backupId, filePath: '/restores/disk.raw' };
  expect(run.result).toEqual({ ...about, state: 'complete', damage: null });
});

const failures: [string, (fleet: Fleet) => void, string][] = [
  ['openBackup', ({ beta }) => beta.fail('openBackup', 'image-invalid'), 'image-invalid'],
  ['startRestore', ({ alpha }) => alpha.fail('startRestore', 'storage-full'), 'storage-full'],
  ['the job', ({ alpha }) => alpha.failJobs({ code: 'storage-full', message: 'full' }), 'storage-full'],
  ['getVolume', ({ alpha }) => alpha.fail('getVolume', 'internal-error', { times: 1 }), 'internal-error'],
];

test.each(failures)('a restore that fails at %s leaves nothing', async (_where, breakIt, code) => {
  const backup = await backedUp();
  breakIt(fleet);
  const run = await fleet.end(await fleet.restore(backup, { volume: 'copy' }));
  expect([run.state, run.error?.code]).toEqual(['failed', code]);
  expect(await fleet.leftovers()).toMatchObject({
    openBackups: [],
    jobs: [],
    volumes: ['disk'],
    volumeRows: ['disk'],
  });
});

test.each([
  ['closeBackup', 'beta', 'storage-node-unreachable'],
  ['dismissJob', 'alpha', 'job-state'],
] as const)('a restored volume is not lost to a %s that fails', async (method, node, code) => {
  const backup = await backedUp();
  fleet[node].fail(method, code);
  const run = await fleet.succeed(await fleet.restore(backup, { volume: 'copy' }));
  expect((await fleet.catalog.volumes.get('copy')).state).toBe('ready');
  expect(run.steps.filter(step => step.state !== 'succeeded')).toMatchObject([
    { state: 'failed', error: { code } },
  ]);
});

test('a restore that is cancelled leaves nothing', async () => {
  const backup = await backedUp();
  fleet.alpha.holdJobs = true;
  const asked = await fleet.restore(backup, { volume: 'copy' });
  await fleet.until(asked, ({ progress }) => progress.currentBytes > 0);
  await fleet.catalog.runs.requestCancel(asked.id);
  expect((await fleet.end(asked)).state).toBe('cancelled');
  expect(await fleet.leftovers()).toMatchObject({
    openBackups: [],
    jobs: [],
    volumes: ['disk'],
    volumeRows: ['disk'],
  });
});

test('a run that is cancelled before a worker takes it does nothing', async () => {
  await fleet.furnish();
  const run = await fleet.catalog.transaction(async catalog => {
    const wanted = {
      name: 'never',
      storageNodeId: fleet.nodeIds.alpha,
      sizeBytes: 512,
      format: 'raw' as const,
    };
    const { id: volumeId } = await catalog.volumes.create({ id: randomUUID(), ...wanted });
    const request = { volumeId, ...wanted };
    const { id } = await catalog.runs.create({ id: randomUUID(), kind: 'create-volume', volumeId, request });
    return catalog.runs.requestCancel(id);
  });
  const ended = await fleet.end(run);
  expect([ended.state, ended.steps]).toEqual(['cancelled', []]);
  expect(await fleet.leftovers()).toMatchObject({ volumes: ['disk'], volumeRows: ['disk'] });
});

test('a request that cannot be read fails after a few attempts', async () => {
  const id = randomUUID();
  const run = await fleet.catalog.runs.create({
    id,
    kind: 'create-volume',
    request: { volumeId: 'nonsense' },
  });
  const ended = await fleet.end(run);
  expect([ended.state, ended.error?.code, ended.attempt]).toEqual(['failed', 'internal-error', 3]);
});

test('the monitor sees a storage node go and come back, and tells each once', async () => {
  await fleet.furnish();
  const state = async () => (await fleet.catalog.storageNodes.get('beta')).state;
  fleet.beta.stop();
  await poll('unreachable', async () => ((await state()) === 'unreachable' ? true : undefined));
  await fleet.beta.start();
  await poll('online', async () => ((await state()) === 'online' ? true : undefined));
  const events = await fleet.catalog.events.listAfter(0, 1000);
  const told = events.filter(event => event.subjectId === fleet.nodeIds.beta).map(event => event.kind);
  expect(told).toEqual([
    'storage-node-added',
    'storage-node-online',
    'storage-node-unreachable',
    'storage-node-online',
  ]);
});

test('one storage node that cannot be written down does not keep the monitor from the others', async () => {
  await fleet.furnish();
  await fleet.catalog.transaction(async catalog => {
    for (let port = 1; port <= 100; port += 1) {
      const wanted = { id: randomUUID(), name: `gone-${port}`, controlAddress: `127.0.0.1:${port}` };
      await catalog.storageNodes.create(wanted);
    }
  });
  await inDatabase(fleet.database.url, client =>
    client.query(`UPDATE storage_node SET state = 'online', created_at = '2000-01-01' WHERE name LIKE 'gone-%';
      CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
      CREATE TRIGGER refuse BEFORE UPDATE ON storage_node FOR EACH ROW WHEN (NEW.name = 'gone-1')
      EXECUTE FUNCTION refuse()`),
  );
  fleet.beta.stop();
  await poll('unreachable', async () => {
    const { state } = await fleet.catalog.storageNodes.get('beta');
    return state === 'unreachable' ? true : undefined;
  });
});

test('another machine at a known address does not pass for the old one', async () => {
  await fleet.furnish();
  fleet.beta.instanceId = 'someone-else';
  await poll('unreachable', async () => {
    const { state } = await fleet.catalog.storageNodes.get('beta');
    return state === 'unreachable' ? true : undefined;
  });
});
