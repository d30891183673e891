// Goal: a storage node that is given up while its volumes move, or while two recoveries look at them, leaves each of
// them with one owner. Method: a real database; what two runs do one after the other.
import { randomUUID } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import type { Catalog } from './catalog.ts';
import type { BestBackup } from './loss-repository.ts';
import { openTestCatalog } from './testing/index.ts';

const NAMES = ['alpha', 'beta', 'gamma'] as const;
const RUN = randomUUID();

let catalog: Catalog;
let ids: Record<(typeof NAMES)[number], string>;
let volumeId: string;

beforeEach(async () => {
  ({ catalog } = await openTestCatalog());
  ids = { alpha: randomUUID(), beta: randomUUID(), gamma: randomUUID() };
  for (const [index, name] of NAMES.entries()) {
    const controlAddress = `127.0.0.1:740${index}`;
    await catalog.storageNodes.create({ id: ids[name], name, controlAddress });
    await catalog.storageNodes.markOnline(ids[name], {
      ...{ instanceId: name, nbdAddress: `127.0.0.1:1080${index}`, version: '1.0.0', labels: {} },
      ...{ capacityBytes: 2_000, availableBytes: 1_000 },
    });
  }
  const wanted = { name: 'disk', storageNodeId: ids.alpha, sizeBytes: 4096, format: 'raw' } as const;
  volumeId = (await catalog.volumes.create({ id: randomUUID(), ...wanted })).id;
  await catalog.volumes.markReady(volumeId, { exportUri: 'nbd://alpha/disk', sizeBytes: 4096 }, RUN);
});

async function giveUp(name: (typeof NAMES)[number]): Promise<void> {
  await catalog.storageNodes.markUnreachable(ids[name], 'gone');
  await catalog.losses.giveUp(ids[name], RUN);
}

const switchTo = (to: string) => catalog.moves.switchTo(volumeId, { from: ids.alpha, to });
const finish = (toId: string) =>
  catalog.moves.finish(volumeId, { from: 'alpha', to: 'beta', toId, exportUri: 'nbd://beta/disk' }, RUN);

function recover(to: string): Promise<unknown> {
  const volume = { id: volumeId, name: 'disk', sizeBytes: 4096, format: 'raw' as const };
  const backup = { id: randomUUID(), repositoryId: randomUUID(), checkpoint: 'mon', sizeBytes: 4096 };
  return catalog.transaction(tx =>
    tx.losses.beginRestore(RUN, {
      ...{ volume, backup: { ...backup, repository: 'vault', pointInTime: null } satisfies BestBackup },
      ...{ from: ids.alpha, to, isInstant: false },
    }),
  );
}

test('a volume that had all arrived when its storage node was given up moves to safety', async () => {
  await catalog.moves.begin(volumeId, RUN);
  await giveUp('alpha');
  expect(await catalog.losses.lostVolumes(ids.alpha)).toHaveLength(1);
  await switchTo(ids.beta);
  await finish(ids.beta);
  expect(await catalog.volumes.get(volumeId)).toMatchObject({ state: 'ready', storageNodeId: ids.beta });
  expect(await catalog.losses.lostVolumes(ids.alpha)).toEqual([]);
});

test('a move that comes too late does not take a volume from the storage node that it was restored to', async () => {
  await catalog.moves.begin(volumeId, RUN);
  await giveUp('alpha');
  await recover(ids.gamma);
  await expect(switchTo(ids.beta)).rejects.toMatchObject({ code: 'volume-not-ready' });
  await finish(ids.beta);
  expect(await catalog.volumes.get(volumeId)).toMatchObject({ state: 'creating', storageNodeId: ids.gamma });
});

test('a volume is not open where its new storage node was given up before it could be', async () => {
  await catalog.moves.begin(volumeId, RUN);
  await switchTo(ids.beta);
  await giveUp('beta');
  await finish(ids.beta);
  expect(await catalog.volumes.get(volumeId)).toMatchObject({ state: 'lost', storageNodeId: ids.beta });
});

test('of two recoveries one brings the volume back, and the other leaves what that has made', async () => {
  await giveUp('alpha');
  await recover(ids.beta);
  await expect(recover(ids.gamma)).rejects.toMatchObject({ code: 'volume-not-ready' });
  expect(await catalog.volumes.get(volumeId)).toMatchObject({ state: 'creating', storageNodeId: ids.beta });
  const { items } = await catalog.checkpoints.list(volumeId);
  expect(items.map(({ name }) => name)).toEqual(['mon']);
});
