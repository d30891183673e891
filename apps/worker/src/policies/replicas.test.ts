// Goal: a replica that cannot be started by a defect is tried again later each time, told of, and given up when it is
// too old: no beat is spent on it for ever. Method: a catalog whose transactions fail.
import type { Catalog, FiringReplica } from '@tidemark/catalog';
import { expect, test } from 'vitest';
import { WORKER_LIMITS } from '../limits.ts';
import { Replicas } from './replicas.ts';

const NOW_MS = Date.UTC(2026, 10, 1);
const REPLICA: FiringReplica = {
  ...{
    id: 'r',
    firingId: 'f',
    backupId: 'b',
    repositoryId: 'v',
    state: 'waiting',
    reason: null,
    runId: null,
  },
  ...{ attempts: 0, refusals: 2, notBefore: null, createdAt: new Date(NOW_MS) },
};

test.each([
  ['young', 0, ['again 120000']],
  ['too old', WORKER_LIMITS.policyReplicaMs, ['failed']],
])('one that is %s', async (_what, ageMs, wanted) => {
  const told: string[] = [];
  const catalog = {
    transaction: () => Promise.reject(new TypeError('a defect')),
    firingReplicas: {
      again: async (_: FiringReplica, { delayMs }: { delayMs: number }) => void told.push(`again ${delayMs}`),
      end: async (_: FiringReplica, { state }: { state: string }) => void told.push(state),
    },
  } as unknown as Catalog;
  const replicas = new Replicas({ catalog, limits: WORKER_LIMITS, now: () => NOW_MS + ageMs });
  await expect(replicas.start(REPLICA)).rejects.toThrow('a defect');
  expect(told).toEqual(wanted);
});
