// Goal: differences are recorded whatever their number, once each, and end when they are not seen again. Method: a real
// database.
import { randomUUID } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import type { Catalog } from './catalog.ts';
import type { SeenDifference } from './difference-repository.ts';
import { openTestCatalog } from './testing/index.ts';
import { seed } from './testing/nouns.ts';

let catalog: Catalog;
let storageNodeId: string;

beforeEach(async () => {
  ({ catalog } = await openTestCatalog());
  storageNodeId = (await seed(catalog)).node.id;
});

const how = { runId: randomUUID(), newId: () => randomUUID() };
const unknown = (message = 'not known'): SeenDifference => ({
  ...{ kind: 'backup-unknown', subjectType: 'backup', subjectId: randomUUID(), message },
  data: { actions: ['adopt'] },
});

test('as many as a lost catalog makes, in the order given, each once', async () => {
  const seen = Array.from({ length: 2_000 }, () => unknown());
  const first = await catalog.differences.record(storageNodeId, seen, how);
  expect(first.map(({ subjectId }) => subjectId)).toEqual(seen.map(({ subjectId }) => subjectId));
  const [kept, ...gone] = first;
  const changed = { ...seen[0]!, message: 'said otherwise' };
  const second = await catalog.differences.record(storageNodeId, [changed], how);
  expect(second).toMatchObject([{ id: kept!.id, message: 'said otherwise', firstSeenAt: kept!.firstSeenAt }]);
  expect((await catalog.differences.list({ state: 'open' })).items.map(({ id }) => id)).toEqual([kept!.id]);
  expect(await catalog.differences.get(gone.at(-1)!.id)).toMatchObject({ state: 'gone' });
}, 60_000);
