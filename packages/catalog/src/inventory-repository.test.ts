// Goal: how long nobody has worked on a run is told right, whatever it has waited for. Method: a real database, a run
// that is old and was just given back.
import { randomUUID } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import type { Catalog } from './catalog.ts';
import { inDatabase, openTestCatalog, type TestDatabase } from './testing/index.ts';
import { seed } from './testing/nouns.ts';

let database: TestDatabase;
let catalog: Catalog;

beforeEach(async () => {
  ({ catalog, database } = await openTestCatalog());
});

test('a run that was taken over just now is not silent since it was made', async () => {
  const { node } = await seed(catalog);
  const begunAt = new Date();
  const run = { id: randomUUID(), kind: 'reconcile', storageNodeId: node.id, request: {} } as const;
  await catalog.runs.create(run);
  await inDatabase(database.url, client =>
    client.query(
      `UPDATE run SET created_at = now() - interval '1 day', state = 'running', lease_owner = 'lost',
       lease_until = now() - interval '1 second'`,
    ),
  );
  expect(await catalog.runs.takeOverExpired()).toHaveLength(1);
  const [fact] = (await catalog.inventory.ofStorageNode(node.id)).liveRuns;
  expect(fact!.silentSince!.getTime()).toBeGreaterThanOrEqual(begunAt.getTime() - 1_000);
});
