// What the members of a firing become that are to be of one instant: a group, whose run all of them wait for.
import { type Candidate, type CatalogTransaction, type FiringMember, intendGroup } from '@tidemark/catalog';
import { checkpointName, NAMES_MAX } from './member-intent.ts';

interface Together {
  readonly candidate: Candidate;
  readonly members: readonly FiringMember[];
  readonly speedBytesPerSecond: number;
  /** What each is expected to take, by its id. */
  readonly needs: ReadonlyMap<string, number | null>;
}

/** Within a transaction that holds the members; they are admitted with it. Rejects as the intent of a group does. */
export async function intendMembers(
  catalog: CatalogTransaction,
  runId: string,
  { candidate, members, speedBytesPerSecond, needs }: Together,
): Promise<void> {
  const { policy, definition, repositoryId, kind, dueAt } = candidate;
  const name = await freeName(catalog, candidate, members);
  const speed = speedBytesPerSecond === 0 ? {} : { speedBytesPerSecond };
  const isBackup = kind !== 'checkpoint' && repositoryId !== null;
  const { group } = await intendGroup(catalog, runId, {
    ...{ name, description: `by policy '${policy.name}', due at ${dueAt.toISOString()}` },
    ...definition.grouped!,
    dropOldest: definition.dropOldest,
    volumes: members.map(({ volumeId }) => volumeId),
    ...(isBackup && { backup: { repository: repositoryId, kind, ...speed } }),
    ...{ priority: policy.definition.priority, requestedBy: `policy ${policy.name}` },
  });
  for (const { id, volumeId } of members) {
    const backupId = group.members.find(one => one.volumeId === volumeId)?.backupId ?? null;
    const backup = backupId === null ? null : await catalog.backups.get(backupId);
    await catalog.admissions.admit(id, {
      kind: backup?.kind ?? 'checkpoint',
      runId,
      backupId,
      estimateBytes: needs.get(id) ?? null,
    });
  }
}

/** Of the group, and of a checkpoint of each volume. */
async function freeName(
  catalog: CatalogTransaction,
  { policy, dueAt }: Candidate,
  members: readonly FiringMember[],
): Promise<string> {
  for (let count = 1; ; count++) {
    const name = checkpointName(policy.name, dueAt, count);
    const group = await catalog.groups.find(name);
    const isFree = group === null || group.state === 'failed' || group.state === 'cancelled';
    const volumeIds = members.map(({ volumeId }) => volumeId);
    // Of the last one the intent says who has it.
    if (count === NAMES_MAX) return name;
    if (isFree && !(await catalog.checkpoints.isNameTaken(volumeIds, name))) return name;
  }
}
