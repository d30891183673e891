// Goal: backups are written over NBD, published whole or not at all, and read back through their chain.
// Method: a whole storage node, its gRPC clients and the real NBD client.
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rmdir, writeFile } from 'node:fs/promises';
import { NbdClient } from '@tidemark/nbd';
import { describe, expect, test } from 'vitest';
import {
  createRepository,
  MiB,
  makeBackup,
  type Plan,
  planOf,
  publicationOf,
  readAll,
  readBackup,
  writeOver,
} from '../src/testing/backups.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';

const files = (node: RunningStorageNode, repositoryId: string) =>
  readdir(node.path('repositories', repositoryId, 'backups'));

describe('writing and reading', () => {
  test('what was written to a prepared backup is published and read back', async () => {
    const node = await RunningStorageNode.start();
    const repositoryId = await createRepository(node);
    const plan = planOf(repositoryId, randomUUID());
    const bytes = randomBytes(300_000);
    const stored = await makeBackup(node, plan, [{ offset: MiB - 1000, bytes }]);
    expect(stored).toMatchObject({
      backupId: plan.backupId,
      volumeId: plan.volumeId,
      kind: 'full',
      sizeBytes: 4 * MiB,
      fileName: `backups/${plan.backupId}.qcow2`,
    });
    expect(stored.storedBytes).toBeGreaterThan(bytes.length);
    expect(stored.storedBytes).toBeLessThan(2 * MiB);
    const expected = Buffer.alloc(4 * MiB);
    bytes.copy(expected, MiB - 1000);
    expect((await readBackup(node, plan)).equals(expected)).toBe(true);
    expect(await files(node, repositoryId)).toEqual([`${plan.backupId}.json`, `${plan.backupId}.qcow2`]);
  });

  test('an increment holds its changes only and reads through its parents, also a grown one', async () => {
    const node = await RunningStorageNode.start();
    const repositoryId = await createRepository(node);
    const volumeId = randomUUID();
    const full = planOf(repositoryId, volumeId);
    const first = randomBytes(2 * MiB);
    await makeBackup(node, full, [{ offset: 0, bytes: first }]);
    const second = { ...planOf(repositoryId, volumeId, full.backupId), sizeBytes: 6 * MiB };
    const change = randomBytes(1000);
    const stored = await makeBackup(node, second, [{ offset: MiB, bytes: change }]);
    const third = { ...planOf(repositoryId, volumeId, second.backupId), sizeBytes: 6 * MiB };
    await makeBackup(node, third, [{ offset: 5 * MiB, bytes: change }]);
    expect(stored.storedBytes).toBeLessThan(MiB);
    const expected = Buffer.alloc(6 * MiB);
    first.copy(expected);
    change.copy(expected, MiB);
    expect((await readBackup(node, second)).equals(expected)).toBe(true);
    change.copy(expected, 5 * MiB);
    expect((await readBackup(node, third)).equals(expected)).toBe(true);
    const { backups } = await node.clients.repositories.listBackups({ repositoryId });
    expect(backups.map(backup => [backup.backupId, backup.parentBackupId])).toEqual([
      [full.backupId, ''],
      [second.backupId, full.backupId],
      [third.backupId, second.backupId],
    ]);
  });

  test('a volume that was restored from a backup builds on it', async () => {
    const node = await RunningStorageNode.start();
    const repositoryId = await createRepository(node);
    const full = planOf(repositoryId, randomUUID());
    const content = randomBytes(MiB);
    await makeBackup(node, full, [{ offset: 0, bytes: content }]);
    const next = planOf(repositoryId, randomUUID(), full.backupId);
    const stored = await makeBackup(node, next, [{ offset: MiB, bytes: content }]);
    expect(stored).toMatchObject({ volumeId: next.volumeId, parentBackupId: full.backupId });
    const expected = Buffer.concat([content, content, Buffer.alloc(2 * MiB)]);
    expect((await readBackup(node, next)).equals(expected)).toBe(true);
  });

  test('only published backups are listed and can be read', async () => {
    const node = await RunningStorageNode.start();
    const { repositories } = node.clients;
    const repositoryId = await createRepository(node);
    const plan = planOf(repositoryId, randomUUID());
    const { uri } = await repositories.prepareBackup({ step: newStep(), ...plan });
    expect((await repositories.listBackups({ repositoryId })).backups).toEqual([]);
    const { backupId } = plan;
    await expect(repositories.getBackup({ repositoryId, backupId })).rejects.toThrow(/still being written/);
    await expect(repositories.openBackup({ step: newStep(), repositoryId, backupId })).rejects.toMatchObject({
      code: 'backup-not-found',
    });
    const client = await NbdClient.connect({ uri });
    await client.write(0, Buffer.from('kept'));
    // Publishing ends the export under a client that stayed.
    await repositories.publishBackup({ step: newStep(), ...publicationOf(plan) });
    await expect(client.write(0, Buffer.from('late'))).rejects.toThrow();
    expect((await readBackup(node, plan)).subarray(0, 4).toString()).toBe('kept');
    await expect(NbdClient.connect({ uri })).rejects.toThrow();
  });

  test('several runs hold one backup open, each by an export of its own', async () => {
    const node = await RunningStorageNode.start();
    const { repositories } = node.clients;
    const repositoryId = await createRepository(node);
    const plan = planOf(repositoryId, randomUUID());
    await makeBackup(node, plan, [{ offset: 0, bytes: Buffer.from('content') }]);
    const { backupId } = plan;
    const [one, two] = [newStep(), newStep()];
    const first = await repositories.openBackup({ step: one, repositoryId, backupId });
    const second = await repositories.openBackup({ step: two, repositoryId, backupId });
    expect(await repositories.openBackup({ step: one, repositoryId, backupId })).toEqual(first);
    expect(second.uri).not.toBe(first.uri);
    for (let round = 0; round < 2; round++) {
      await repositories.closeBackup({ step: one, repositoryId, backupId });
    }
    await expect(NbdClient.connect({ uri: first.uri })).rejects.toThrow();
    expect((await readAll(second.uri, 7)).toString()).toBe('content');
    await expect(writeOver(second.uri, [{ offset: 0, bytes: Buffer.from('x') }])).rejects.toThrow();
    // Closed and opened again in one step of the same run: not answered with the export that is gone.
    const again = await repositories.openBackup({ step: one, repositoryId, backupId });
    expect(again.uri).not.toBe(first.uri);
    expect((await readAll(again.uri, 7)).toString()).toBe('content');
  });
});

describe('repeating and undoing', () => {
  test('a repeated prepare is answered the same endpoint, one with other settings is refused', async () => {
    const node = await RunningStorageNode.start();
    const { repositories } = node.clients;
    const plan = planOf(await createRepository(node), randomUUID());
    const endpoint = await repositories.prepareBackup({ step: newStep(), ...plan });
    expect(await repositories.prepareBackup({ step: newStep(), ...plan })).toEqual(endpoint);
    await expect(
      repositories.prepareBackup({ step: newStep(), ...plan, sizeBytes: 8 * MiB }),
    ).rejects.toMatchObject({ code: 'backup-not-usable' });
  });

  test('publish may be repeated, with its step and without', async () => {
    const node = await RunningStorageNode.start();
    const { repositories } = node.clients;
    const plan = planOf(await createRepository(node), randomUUID());
    await repositories.prepareBackup({ step: newStep(), ...plan });
    const request = { step: newStep(), ...publicationOf(plan) };
    const stored = await repositories.publishBackup(request);
    expect(await repositories.publishBackup(request)).toEqual(stored);
    expect(await repositories.publishBackup({ ...request, step: newStep() })).toEqual(stored);
  });

  test('discard removes everything, gives the room back, and the run can prepare again', async () => {
    const node = await RunningStorageNode.start();
    const { repositories } = node.clients;
    const repositoryId = await createRepository(node, 16 * MiB);
    const plan = planOf(repositoryId, randomUUID());
    const step = newStep();
    const { uri } = await repositories.prepareBackup({ step, ...plan });
    await writeOver(uri, [{ offset: 0, bytes: randomBytes(MiB) }]);
    expect((await repositories.getRepository({ repositoryId })).usedBytes).toBeGreaterThan(MiB);
    for (let round = 0; round < 2; round++) {
      await repositories.discardBackup({ step, repositoryId, backupId: plan.backupId });
    }
    expect(await files(node, repositoryId)).toEqual([]);
    expect((await repositories.getRepository({ repositoryId })).usedBytes).toBe(0);
    const again = await repositories.prepareBackup({ step, ...plan });
    expect(again.uri).not.toBe(uri);
    await writeOver(again.uri, [{ offset: 0, bytes: Buffer.from('x') }]);
  });

  test('a replaced worker is refused', async () => {
    const node = await RunningStorageNode.start();
    const { repositories } = node.clients;
    const plan = planOf(await createRepository(node), randomUUID());
    const runId = randomUUID();
    await repositories.prepareBackup({ step: newStep({ runId, leaseEpoch: 2 }), ...plan });
    await expect(
      repositories.discardBackup({ step: newStep({ runId, leaseEpoch: 1 }), ...plan }),
    ).rejects.toMatchObject({ code: 'run-superseded' });
  });
});

describe('limits', () => {
  test('a write beyond the limit fails with ENOSPC; discarding makes room', async () => {
    const node = await RunningStorageNode.start();
    const { repositories } = node.clients;
    const repositoryId = await createRepository(node, 2 * MiB);
    const plan = planOf(repositoryId, randomUUID());
    const { uri } = await repositories.prepareBackup({ step: newStep(), ...plan });
    const client = await NbdClient.connect({ uri });
    let writtenBytes = 0;
    const fill = async () => {
      for (; writtenBytes < 4 * MiB; writtenBytes += 65_536) {
        await client.write(writtenBytes, randomBytes(65_536));
      }
    };
    await expect(fill()).rejects.toMatchObject({ errno: 'ENOSPC' });
    expect(writtenBytes).toBeGreaterThanOrEqual(MiB);
    // What is there already may still be overwritten.
    await client.write(0, randomBytes(65_536));
    await client.disconnect();
    const { usedBytes } = await repositories.getRepository({ repositoryId });
    expect(usedBytes).toBeLessThanOrEqual(2 * MiB);
    await expect(
      repositories.prepareBackup({ step: newStep(), ...planOf(repositoryId, randomUUID()) }),
    ).rejects.toMatchObject({ code: 'repository-full' });
    const partials = [`.partial-${plan.backupId}.qcow2`, `.partial-${plan.backupId}.sums`];
    expect(await files(node, repositoryId)).toEqual(partials);
    await repositories.discardBackup({ step: newStep(), ...plan });
    await repositories.prepareBackup({ step: newStep(), ...planOf(repositoryId, randomUUID()) });
  });

  test('a published backup takes what it stores, and is never larger than what was paid', async () => {
    const node = await RunningStorageNode.start();
    const { repositories } = node.clients;
    const repositoryId = await createRepository(node, 64 * MiB);
    const plan = planOf(repositoryId, randomUUID());
    const { uri } = await repositories.prepareBackup({ step: newStep(), ...plan });
    await writeOver(
      uri,
      Array.from({ length: 20 }, (_, index) => ({ offset: index * 180_000, bytes: randomBytes(70_000) })),
    );
    const paid = (await repositories.getRepository({ repositoryId })).usedBytes;
    const { storedBytes } = await repositories.publishBackup({ step: newStep(), ...publicationOf(plan) });
    expect(storedBytes).toBeLessThanOrEqual(paid);
    expect((await repositories.getRepository({ repositoryId })).usedBytes).toBe(storedBytes);
  });
});

describe('restart', () => {
  test('published backups come back, unfinished ones are removed and can be prepared anew', async () => {
    const node = await RunningStorageNode.start();
    const repositoryId = await createRepository(node, 64 * MiB);
    const plan = planOf(repositoryId, randomUUID());
    const stored = await makeBackup(node, plan, [{ offset: 0, bytes: Buffer.from('content') }]);
    const unfinished = planOf(repositoryId, plan.volumeId, plan.backupId);
    const step = newStep();
    const before = await node.clients.repositories.prepareBackup({ step, ...unfinished });
    const image = node.path('repositories', repositoryId, 'backups', `${plan.backupId}.qcow2`);
    await node.stop();
    // As a crash leaves them: one while writing, one between the rename and the manifest.
    const crashed = randomUUID();
    const folder = node.path('repositories', repositoryId, 'backups');
    await writeFile(`${folder}/.partial-${crashed}.qcow2`, await readFile(image));
    await writeFile(`${folder}/${crashed}.qcow2`, await readFile(image));
    await node.begin();
    expect(await files(node, repositoryId)).toEqual([`${plan.backupId}.json`, `${plan.backupId}.qcow2`]);
    const { repositories } = node.clients;
    expect((await repositories.listBackups({ repositoryId })).backups).toEqual([stored]);
    expect((await repositories.getRepository({ repositoryId })).usedBytes).toBe(stored.storedBytes);
    await expect(
      repositories.publishBackup({ step: newStep(), ...publicationOf(unfinished) }),
    ).rejects.toMatchObject({ code: 'backup-not-found' });
    const after = await repositories.prepareBackup({ step, ...unfinished });
    expect(after.uri).not.toBe(before.uri);
    expect((await readAll(after.uri, 7)).toString()).toBe('content');
    expect((await readBackup(node, plan)).subarray(0, 7).toString()).toBe('content');
  });

  test('a damaged manifest hides its backup and harms nothing else; put back, it is listed', async () => {
    const node = await RunningStorageNode.start();
    const repositoryId = await createRepository(node);
    const volumeId = randomUUID();
    const parent = planOf(repositoryId, volumeId);
    const child = planOf(repositoryId, volumeId, parent.backupId);
    await makeBackup(node, parent, [{ offset: 0, bytes: Buffer.from('parent') }]);
    await makeBackup(node, child, [{ offset: MiB, bytes: Buffer.from('child') }]);
    const path = node.path('repositories', repositoryId, 'backups', `${parent.backupId}.json`);
    const listed = async () => {
      const { backups } = await node.clients.repositories.listBackups({ repositoryId });
      return backups.map(backup => backup.backupId).sort();
    };
    const good = await readFile(path);
    await writeFile(path, '{"version":1');
    await node.restart();
    expect(await listed()).toEqual([child.backupId]);
    await rename(path, `${path}.away`);
    await node.restart();
    expect((await readBackup(node, child)).subarray(0, 6).toString()).toBe('parent');
    await writeFile(path, good);
    await node.restart();
    expect(await listed()).toEqual([parent.backupId, child.backupId].sort());
  });
});

test('a damaged repository is left alone and does not keep the others from being served', async () => {
  const node = await RunningStorageNode.start();
  const [good, bad] = [await createRepository(node), await createRepository(node)];
  const plan = planOf(bad, randomUUID());
  await makeBackup(node, plan, [{ offset: 0, bytes: Buffer.from('kept') }]);
  const record = node.path('repositories', bad, 'repository.json');
  const content = await readFile(record);
  await writeFile(record, content.subarray(0, 20));
  await node.restart();
  const { repositories } = await node.clients.repositories.listRepositories({});
  expect(repositories.map(repository => repository.repositoryId)).toEqual([good]);
  await writeFile(record, content);
  await node.restart();
  expect((await readBackup(node, plan)).subarray(0, 4).toString()).toBe('kept');
});

test('a repository that cannot be read does not keep the storage node from starting, nor is it deleted', async () => {
  const node = await RunningStorageNode.start();
  const [good, bad] = [await createRepository(node), await createRepository(node)];
  const plan = planOf(bad, randomUUID());
  await makeBackup(node, plan, [{ offset: 0, bytes: Buffer.from('kept') }]);
  const intent = node.path('repositories', bad, 'backups', `.removal-${plan.backupId}.json`);
  // A folder cannot be read as a file.
  await mkdir(intent);
  await node.restart();
  const { repositories } = await node.clients.repositories.listRepositories({});
  expect(repositories.map(repository => repository.repositoryId)).toEqual([good]);
  await expect(
    node.clients.repositories.deleteRepository({ step: newStep(), repositoryId: bad }),
  ).rejects.toMatchObject({ code: 'repository-in-use', message: expect.stringMatching(/could not be read/) });
  await rmdir(intent);
  await node.restart();
  expect((await readBackup(node, plan)).subarray(0, 4).toString()).toBe('kept');
});

describe('refusals', () => {
  test('creating a repository: repeated, other limit, name taken, bad names', async () => {
    const node = await RunningStorageNode.start();
    const { repositories } = node.clients;
    const base = { repositoryId: randomUUID() as string, name: 'vault', limitBytes: 0 };
    const create = (change: Partial<typeof base>) =>
      repositories.createRepository({ step: newStep(), ...base, ...change });
    const created = await create({});
    expect(created).toMatchObject({ name: 'vault', usedBytes: 0 });
    expect(await create({})).toMatchObject({ repositoryId: base.repositoryId });
    await expect(create({ limitBytes: 5 })).rejects.toMatchObject({ code: 'repository-name-taken' });
    await expect(create({ repositoryId: randomUUID() })).rejects.toThrow(/'vault' is taken/);
    await expect(create({ repositoryId: '../x', name: 'x' })).rejects.toMatchObject({
      code: 'invalid-request',
    });
    await expect(create({ repositoryId: randomUUID(), name: '' })).rejects.toMatchObject({
      code: 'invalid-name',
    });
    await node.restart();
    expect((await node.clients.repositories.listRepositories({})).repositories).toHaveLength(1);
    const status = await node.clients.storageNode.getStatus({});
    expect(status).toMatchObject({ name: 'alpha', repositories: 1 });
    expect(status.availableBytes).toBeGreaterThan(0);
  });

  const cases: [string, (plan: Plan) => Partial<Plan>, string][] = [
    ['an unknown repository', () => ({ repositoryId: randomUUID() }), 'repository-not-found'],
    [
      'an unknown parent',
      () => ({ backupId: randomUUID(), parentBackupId: randomUUID() }),
      'backup-not-found',
    ],
    ['size 0', () => ({ sizeBytes: 0 }), 'invalid-volume-size'],
    ['a size that is no multiple of 512', () => ({ sizeBytes: 1000 }), 'invalid-volume-size'],
    ['an id that is a path', () => ({ backupId: '../../x' }), 'invalid-request'],
    [
      'a parent that is larger',
      plan => ({ parentBackupId: plan.backupId, sizeBytes: MiB, backupId: randomUUID() }),
      'backup-not-usable',
    ],
    ['a backup that is published', () => ({}), 'backup-not-usable'],
  ];

  test.each(cases)('preparing with %s leaves nothing behind', async (_what, change, code) => {
    const node = await RunningStorageNode.start();
    const plan = planOf(await createRepository(node), randomUUID());
    await makeBackup(node, plan, []);
    const before = await files(node, plan.repositoryId);
    await expect(
      node.clients.repositories.prepareBackup({ step: newStep(), ...plan, ...change(plan) }),
    ).rejects.toMatchObject({ code });
    expect(await files(node, plan.repositoryId)).toEqual(before);
  });

  test('publishing the unprepared, as the wrong kind, without a step; discarding the published', async () => {
    const node = await RunningStorageNode.start();
    const { repositories } = node.clients;
    const plan = planOf(await createRepository(node), randomUUID());
    const publication = publicationOf(plan);
    await expect(repositories.publishBackup({ step: newStep(), ...publication })).rejects.toMatchObject({
      code: 'backup-not-found',
    });
    await repositories.prepareBackup({ step: newStep(), ...plan });
    for (const kind of ['incremental', 'other']) {
      await expect(
        repositories.publishBackup({ step: newStep(), ...publication, kind }),
      ).rejects.toMatchObject({ code: 'invalid-request' });
    }
    await expect(repositories.publishBackup({ step: undefined, ...publication })).rejects.toThrow(
      /needs its step/,
    );
    await repositories.publishBackup({ step: newStep(), ...publication });
    await expect(repositories.discardBackup({ step: newStep(), ...plan })).rejects.toMatchObject({
      code: 'backup-not-usable',
    });
  });
});
