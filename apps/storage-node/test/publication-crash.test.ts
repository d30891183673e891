// Goal: wherever a storage node dies while it publishes a backup, either nothing is listed and nothing is left, or all
// of it is. Method: the state directory is copied at each durable step of a publication, as a crash would leave it,
// and a storage node is started on each copy.
import { randomBytes, randomUUID } from 'node:crypto';
import { cpSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { NbdExports } from '../src/exports/nbd-exports.ts';
import { StateStore } from '../src/host/state-store.ts';
import type { Publication } from '../src/repository/publication.ts';
import { RepositoryStore } from '../src/repository/repository-store.ts';
import { CLUSTER_BYTES } from '../src/sums/sums-format.ts';
import { copyWithSums } from '../src/testing/damage.ts';
import { temporaryFolder } from '../src/testing/temporary-folder.ts';

const SIZE_BYTES = 4 * 1024 * 1024;

async function open(folder: string, pass: (point: string) => void) {
  const store = new StateStore({ folder, pass });
  await store.open();
  const listen = { host: '127.0.0.1', port: 0 };
  const exports = new NbdExports({ listen });
  await exports.start();
  const repositories = new RepositoryStore({ store, exports, now: () => 1, report: () => undefined });
  await repositories.load();
  const close = async () => {
    await repositories.close();
    await exports.close();
    await store.close();
  };
  return { repositories, close };
}

/** A backup that is copied and not yet published. */
async function copied(repositories: RepositoryStore, clusters = 3) {
  const repositoryId = randomUUID();
  const create = { repositoryId, name: 'vault', limitBytes: 0, compression: 'none' as const };
  const repository = await repositories.create(create);
  const backupId = randomUUID();
  const endpoint = await repository.prepare({
    ...{ backupId, volumeId: randomUUID(), sizeBytes: SIZE_BYTES, parentBackupId: '' },
    ...{ compression: undefined, expectedBytes: 0 },
  });
  await copyWithSums(endpoint, { data: [{ offset: 0, bytes: randomBytes(clusters * CLUSTER_BYTES) }] });
  const publication: Publication = {
    ...{ backupId, volumeName: 'disk', checkpointId: randomUUID(), checkpointName: 'monday' },
    ...{ pointInTimeMs: 1, kind: 'full', reason: 'full: asked for' },
  };
  return { repositoryId, repository, publication };
}

test('a crash at any step of a publication leaves all or nothing', async () => {
  const folder = await temporaryFolder();
  const copies = await temporaryFolder();
  const taken: string[] = [];
  let isWatching = false;
  const node = await open(path.join(folder, 'state'), point => {
    if (!isWatching) return;
    cpSync(path.join(folder, 'state'), path.join(copies, String(taken.length)), {
      recursive: true,
      filter: source => !path.basename(source).startsWith('lock'),
    });
    taken.push(point);
  });
  const { repositoryId, repository, publication } = await copied(node.repositories);
  isWatching = true;
  await repository.publish(publication);
  isWatching = false;
  await node.close();
  // Image, checksums and manifest, each with its steps.
  expect(taken.filter(point => /renamed$/.test(point))).toHaveLength(3);
  const outcomes = [];
  for (const [index, point] of taken.entries()) {
    const again = await open(path.join(copies, String(index)), () => undefined);
    const listed = again.repositories.get(repositoryId).list();
    const names = await readdir(path.join(copies, String(index), 'repositories', repositoryId, 'backups'));
    if (listed.length === 0) expect(names, point).toEqual([]);
    else expect(names.map(name => path.extname(name)).sort(), point).toEqual(['.json', '.qcow2', '.sums']);
    if (listed.length === 1) {
      const reopened = again.repositories.get(repositoryId);
      await reopened.open({ backupId: publication.backupId, runId: 'check', verified: true, durable: false });
    }
    outcomes.push(listed.length);
    await again.close();
  }
  // Listed from the manifest's rename on, and never before.
  const first = taken.findIndex(point => /write .*json renamed$/.test(point));
  expect(outcomes).toEqual(taken.map((_, index) => (index < first ? 0 : 1)));
});

test('a storage node that stops does not read an image to its end first, and lists nothing of it', async () => {
  const folder = await temporaryFolder();
  const node = await open(folder, () => undefined);
  const { repositoryId, repository, publication } = await copied(node.repositories, 64);
  const publishing = repository.publish(publication).catch((error: unknown) => error);
  await node.close();
  expect(await publishing).toMatchObject({ code: 'not-ready' });
  expect(await readdir(path.join(folder, 'repositories', repositoryId, 'backups'))).toEqual([]);
});
