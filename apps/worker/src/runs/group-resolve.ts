// Where the members of a group live now, and what each of their backups can build on: an increment whose base is not
// trusted any more becomes a full backup, and says why.
import type { StorageNodeClients } from '@tidemark/proto';
import { hasFallenBack } from './backup-target.ts';
import { type GroupContext, type PlannedMember, type PlannedNode, RESOLVE } from './group-nodes.ts';
import type { Step } from './run-definition.ts';

type Member = GroupContext['request']['members'][number];

export const resolve: Step<'create-group'> = {
  name: RESOLVE,
  async run(context) {
    const { request, catalog, storageNodes } = context;
    const nodes = new Map<string, PlannedNode>();
    for (const member of request.members) {
      const { storageNodeId, name } = await catalog.volumes.get(member.volumeId);
      const storageNode = await storageNodes.get(storageNodeId);
      const node = nodes.get(storageNodeId) ?? { storageNodeId, storageNode: storageNode.name, members: [] };
      nodes.set(storageNodeId, node);
      node.members.push(await planMember(context, { ...member, volume: name }, storageNode));
    }
    return { output: { nodes: [...nodes.values()] } };
  },
};

async function planMember(
  context: GroupContext,
  { volumeId, volume, checkpointId, backup }: Member,
  storageNode: StorageNodeClients,
): Promise<PlannedMember> {
  const member = { volumeId, volume, checkpointId };
  if (backup === null) return { ...member, backup: null };
  const { catalog, run } = context;
  const { backupId, baseCheckpointId, parentBackupId } = backup;
  const full = { ...member, backup: { backupId, baseCheckpointId: '', parentBackupId: null, also: [] } };
  const row = await catalog.backups.get(backupId);
  if (baseCheckpointId === null || hasFallenBack(row, parentBackupId)) return full;
  const doubt = await doubtOf(context, { volumeId, baseCheckpointId }, storageNode);
  if (doubt === null) {
    const found = parentBackupId === null ? [] : await catalog.backupDamage.ofChain(parentBackupId);
    const also = found.map(({ offset, length }) => ({ offset, length }));
    return { ...member, backup: { backupId, baseCheckpointId, parentBackupId, also } };
  }
  const reason = `full: the changes since the base checkpoint are not known (${doubt})`;
  await catalog.backups.fallBackToFull(backupId, reason, run.id);
  return full;
}

/** Why the changes since the base cannot be trusted; null: they can. */
async function doubtOf(
  { stop }: GroupContext,
  { volumeId, baseCheckpointId }: { volumeId: string; baseCheckpointId: string },
  { name, checkpoints: service }: StorageNodeClients,
): Promise<string | null> {
  const { checkpoints } = await service.listCheckpoints({ volumeId }, { signal: stop });
  const first = checkpoints.findIndex(({ checkpointId }) => checkpointId === baseCheckpointId);
  if (first === -1) return `storage node ${name} does not have checkpoint ${baseCheckpointId}`;
  const broken = checkpoints.slice(first).find(({ inconsistent }) => inconsistent);
  return broken ? `the bitmap of checkpoint '${broken.name}' is inconsistent` : null;
}
