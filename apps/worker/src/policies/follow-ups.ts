// What comes after the backups of a firing: its prune, and the verification of a share of them. Written in the
// transaction that ends the firing, so that each is started once. Replicas are replicas.ts's.
import { createHash, randomUUID } from 'node:crypto';
import {
  type CatalogTransaction,
  type Firing,
  type FiringMember,
  type FollowUp,
  goneByAll,
  intendPrune,
  intendVerification,
  keptOf,
  type Policy,
  type PolicyDefinition,
  type Repository,
  requireOnline,
} from '@tidemark/catalog';
import { toTidemarkError } from '../errors.ts';

interface Ended {
  readonly firing: Firing;
  readonly policy: Policy;
  readonly members: readonly FiringMember[];
  readonly now: Date;
}

/** As its backups are: runs that somebody waits for are not held up by what follows hundreds of them. */
export const onBehalfOf = ({ name, definition }: Policy) => ({
  requestedBy: `policy ${name}`,
  priority: definition.priority,
});

/** Verified of one firing: more are for the repository's own share a day. */
const VERIFIED_MAX = 200;

/** What cannot be started says why. */
export async function followUpsOf(catalog: CatalogTransaction, ended: Ended): Promise<FollowUp[]> {
  const { firing, members } = ended;
  const definition = firing.definition!;
  const made = members.filter(({ state, backupId }) => state === 'succeeded' && backupId !== null);
  if (definition.repositoryId === null || made.length === 0) return [];
  const repository = await catalog.repositories.find(definition.repositoryId);
  if (repository === null) return [];
  const work = { ...ended, definition, repository, made };
  return [...(await pruned(catalog, work)), ...(await verified(catalog, work))];
}

interface Work extends Ended {
  readonly definition: PolicyDefinition;
  readonly repository: Repository;
  readonly made: readonly FiringMember[];
}

async function pruned(catalog: CatalogTransaction, work: Work): Promise<FollowUp[]> {
  const { repository, made, policy, now } = work;
  // As they are now: whoever has changed the rules since, or retries an old firing, means these.
  const { keep, schedule, repositoryId: place } = policy.definition;
  if (keep === null || place !== repository.id) return [];
  const refusal = await whyNot(catalog, repository);
  if (refusal !== null) return [{ kind: 'prune', runId: null, reason: refusal }];
  const volumeIds = [...new Set(made.map(({ volumeId }) => volumeId))];
  const wanted = new Set(volumeIds);
  const { id: repositoryId } = repository;
  const rows = (await catalog.retention.lockBackups(repositoryId)).filter(({ volumeId }) =>
    wanted.has(volumeId),
  );
  const kept = keptOf(rows, { rules: keep, now, timeZone: schedule.timeZone });
  const goes = [...kept].filter(([, reasons]) => reasons.length === 0).map(([id]) => ({ id }));
  const gone = await goneByAll(catalog, { repositoryId, by: policy.id, rows, goes, now });
  const backupIds = gone.map(({ id }) => id);
  if (backupIds.length === 0) return [{ kind: 'prune', runId: null, reason: 'nothing goes' }];
  const runId = randomUUID();
  const facts = { repository, backupIds, volumeIds, speedBytesPerSecond: null };
  await intendPrune(catalog, runId, {
    ...facts,
    ...onBehalfOf(policy),
    reason: `retention of policy '${policy.name}'`,
  });
  return [{ kind: 'prune', runId, reason: null }];
}

async function whyNot(catalog: CatalogTransaction, repository: Repository): Promise<string | null> {
  if (repository.state !== 'ready') return `repository '${repository.name}' is ${repository.state}`;
  try {
    requireOnline(await catalog.storageNodes.get(repository.storageNodeId));
    return null;
  } catch (error) {
    return toTidemarkError(error).message;
  }
}

async function verified(catalog: CatalogTransaction, work: Work): Promise<FollowUp[]> {
  const { definition, repository, made, firing, policy } = work;
  const { verifyPercent } = definition;
  if (verifyPercent === 0) return [];
  const refusal = await whyNot(catalog, repository);
  if (refusal !== null) return [{ kind: 'verify', runId: null, reason: refusal }];
  const count = Math.min(VERIFIED_MAX, Math.ceil((made.length * verifyPercent) / 100));
  const place = ({ backupId }: FiringMember) =>
    createHash('sha256').update(`${firing.id} ${backupId}`).digest('hex');
  const chosen = made.toSorted((a, b) => (place(a) < place(b) ? -1 : 1)).slice(0, count);
  const followUps: FollowUp[] = [];
  for (const { backupId } of chosen) {
    const backup = await catalog.backups.find(backupId!);
    if (backup?.state !== 'available') continue;
    const runId = randomUUID();
    const reason = `${verifyPercent} % of each firing of policy '${policy.name}'`;
    await intendVerification(catalog, runId, { backup, repository, reason, ...onBehalfOf(policy) });
    followUps.push({ kind: 'verify', runId, reason: null });
  }
  return followUps;
}
