// Goal: members of a firing that cannot begin hold up nobody else. Method: a real worker and catalog, and storage nodes
// that do not answer what admission asks them.
import { randomUUID } from 'node:crypto';
import type { FiringMember } from '@tidemark/catalog';
import { inDatabase } from '@tidemark/catalog/testing';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Fleet, poll } from './fleet.ts';

/** On a machine that others use as well. */
const PATIENCE_MS = 150_000;
const TIMEOUT_MS = 300_000;
const LONG_MS = 600_000;

let fleet: Fleet;

beforeEach(async () => {
  fleet = await Fleet.open();
  const worker = await fleet.startWorker();
  await fleet.furnish();
  const made = [await fleet.createVolume('second'), await fleet.createVolume('third', 'beta')];
  for (const run of made) await fleet.succeed(run);
  await fleet.stopWorker(worker);
});
afterEach(() => fleet.close());

const SCHEDULE = { cron: '0 0 1 1 *', timeZone: 'UTC', missed: 'skip', missedMax: 1, jitterMs: 0 } as const;

/** The id of the firing. */
async function fire({ repository = 'vault', selector = '' } = {}): Promise<string> {
  const { catalog } = fleet;
  const { id: repositoryId } = await catalog.repositories.get(repository);
  const policy = await catalog.policies.create({
    ...{ id: randomUUID(), name: `to-${repository}`, enabled: false },
    definition: {
      ...{ description: '', selector, schedule: SCHEDULE, kind: 'full', fullEvery: 0, repositoryId },
      ...{ replicaIds: [], keep: null, verifyPercent: 0, concurrency: 8, bandwidth: [], priority: 10 },
      ...{ retry: { times: 0, delayMs: 0 }, dropOldest: true, grouped: null },
    },
  });
  return catalog.policies.fire(policy.id);
}

/** Its members, once they are in these states, by the names of their volumes. */
function membersOnce(firingId: string, states: string[]): Promise<FiringMember[]> {
  return poll(
    states.join(),
    async () => {
      const { items } = await fleet.catalog.firings.members({ firingId });
      const sorted = items.toSorted((a, b) => (a.volumeName < b.volumeName ? -1 : 1));
      return String(sorted.map(({ state }) => state)) === String(states) ? sorted : undefined;
    },
    PATIENCE_MS,
  );
}

test(
  'a storage node that does not answer is asked once, and not for each of its volumes',
  async () => {
    const { alpha, beta } = fleet;
    const firingId = await fire();
    const asked = () => alpha.callsOf('getVolume').length;
    const before = asked();
    let askedByThen: number | undefined;
    beta.afterNext.set('getVolume', () => {
      askedByThen = asked() - before;
    });
    alpha.fail('getVolume', 'storage-node-unreachable');
    await fleet.startWorker({ policyWaitMs: LONG_MS });
    const members = await membersOnce(firingId, ['waiting', 'waiting', 'succeeded']);
    expect(askedByThen).toBe(1);
    for (const { reason, notBefore } of members.slice(0, 2)) {
      expect(reason).toContain('alpha');
      expect(notBefore!.getTime()).toBeGreaterThan(Date.now());
    }
  },
  TIMEOUT_MS,
);

test(
  'the repository is asked for room while the storage node of the volume has yet to answer',
  async () => {
    const { alpha, beta, catalog } = fleet;
    await catalog.volumes.update((await catalog.volumes.get('disk')).id, { labels: { app: 'shop' } });
    const firingId = await fire({ selector: 'app=shop' });
    alpha.hang('getVolume');
    await fleet.startWorker({ policyWaitMs: LONG_MS });
    const member = await poll(
      'the member to wait for alpha',
      async () => {
        const [one] = (await catalog.firings.members({ firingId })).items;
        return one?.notBefore ? one : undefined;
      },
      PATIENCE_MS,
    );
    expect(member.reason).toContain('alpha');
    expect(beta.callsOf('getRepository')).toHaveLength(1);
  },
  TIMEOUT_MS,
);

test(
  'a storage node that is silent is asked once in a look, for its volumes and all of its repositories',
  async () => {
    const { beta, catalog } = fleet;
    const worker = await fleet.startWorker();
    await fleet.succeed(await fleet.createRepository('other'));
    await fleet.stopWorker(worker);
    const firingIds = [await fire(), await fire({ repository: 'other' })];
    beta.fail('getRepository', 'storage-node-unreachable');
    beta.fail('getVolume', 'storage-node-unreachable');
    const asked = () => beta.callsOf('getRepository').length + beta.callsOf('getVolume').length;
    const before = asked();
    await fleet.startWorker({ policyWaitMs: LONG_MS });
    for (const firingId of firingIds) {
      await poll(
        'all to wait for beta',
        async () => {
          const { items } = await catalog.firings.members({ firingId });
          const isSo = items.length > 0 && items.every(({ notBefore }) => notBefore !== null);
          return isSo ? items : undefined;
        },
        PATIENCE_MS,
      );
    }
    expect(asked() - before).toBe(1);
  },
  TIMEOUT_MS,
);

test(
  'a volume that moves is waited for, and the others are not',
  async () => {
    const setState = (state: string) =>
      inDatabase(fleet.database.url, client =>
        client.query(`UPDATE volume SET state = $1 WHERE name = 'second'`, [state]),
      );
    await setState('moving');
    const firingId = await fire();
    await fleet.startWorker();
    const members = await membersOnce(firingId, ['succeeded', 'waiting', 'succeeded']);
    expect(members[1]!.reason).toContain("'second' is moving");
    await setState('ready');
    await membersOnce(firingId, ['succeeded', 'succeeded', 'succeeded']);
  },
  TIMEOUT_MS,
);
