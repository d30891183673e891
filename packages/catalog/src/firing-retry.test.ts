// Goal: a run that failed is followed by one other, also where a worker that was held up comes to its failure once that
// is under way. Method: a real catalog, and what two workers read at the same time, said by one after the other.
import { randomUUID } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import type { Catalog, PolicyDefinition } from './index.ts';
import { inDatabase, openTestCatalog, type TestDatabase } from './testing/index.ts';
import { seed } from './testing/nouns.ts';

const NOW = { reason: 'it failed', delayMs: 0 };
const SCHEDULE = { cron: '@hourly', timeZone: 'UTC', missed: 'all', missedMax: 3, jitterMs: 0 } as const;
let catalog: Catalog;
let database: TestDatabase;
let firingId: string;

beforeEach(async () => {
  ({ catalog, database } = await openTestCatalog());
  const { repository } = await seed(catalog);
  const definition: PolicyDefinition = {
    ...{ description: '', selector: '', schedule: SCHEDULE, kind: 'full', fullEvery: 0, grouped: null },
    ...{ repositoryId: repository.id, replicaIds: [], keep: null, verifyPercent: 0, concurrency: 1 },
    ...{ bandwidth: [], priority: 1, dropOldest: true, retry: { times: 3, delayMs: 0 } },
  };
  const id = randomUUID();
  await catalog.policies.create({ id, name: 'nightly', enabled: true, definition });
  firingId = await catalog.policies.fire(id);
  await catalog.firings.begin(firingId);
});

/** Under way, or ended without success. */
async function run(state: 'running' | 'failed'): Promise<string> {
  const { id } = await catalog.runs.create({ id: randomUUID(), kind: 'backup', request: {} });
  const { lease } = (await catalog.leases.claim(id, { owner: 'w', leaseMs: 60_000, attempt: 1 }))!;
  if (state === 'failed') await catalog.leases.finish(lease, { state });
  return id;
}

test('of a member', async () => {
  const { admissions, firings } = catalog;
  const { id } = (await firings.members({ firingId })).items[0]!;
  const admit = async (runId: string) =>
    admissions.admit(id, { kind: 'full', runId, backupId: null, estimateBytes: null });
  await admit(await run('failed'));
  const [first] = await admissions.listEnded(10);
  const [late] = await admissions.listEnded(10);
  await admissions.again(first!, NOW);
  const runId = await run('running');
  await admit(runId);
  await admissions.again(late!, NOW);
  const end = { from: 'admitted', runId: late!.runId, state: 'failed', reason: 'it failed' } as const;
  expect(await admissions.end(id, end)).toBe(false);
  expect((await firings.members({ firingId })).items).toMatchObject([
    { state: 'admitted', runId, attempts: 2 },
  ]);
});

test('of a replica', async () => {
  const { firingReplicas } = catalog;
  await firingReplicas.add(firingId, { backupId: randomUUID(), repositoryIds: [randomUUID()] });
  const { id } = (await firingReplicas.listDue(10))[0]!;
  await firingReplicas.started(id, await run('failed'));
  const [first] = await firingReplicas.listEnded(10);
  const [late] = await firingReplicas.listEnded(10);
  await firingReplicas.again(first!, NOW);
  const runId = await run('running');
  await firingReplicas.started(id, runId);
  await firingReplicas.again(late!, NOW);
  await firingReplicas.end(late!, { state: 'failed', reason: 'it failed' });
  const rows = await inDatabase(database.url, async client => {
    const text = 'SELECT state, run_id AS "runId", attempts FROM policy_firing_replica';
    return (await client.query(text)).rows;
  });
  expect(rows).toEqual([{ state: 'started', runId, attempts: 2 }]);
});
