// Storage nodes that are lost for good, and what becomes of what they had.
import { randomUUID } from 'node:crypto';
import { type RunRequest, TidemarkError } from '@tidemark/proto';
import { CatalogError, notFound } from './errors.ts';
import { isId } from './ref.ts';
import { unsoundOf } from './retention/soundness.ts';
import type { Db, Scope, Tell } from './scope.ts';
import { needsVolume } from './unended-run.ts';

export interface LostVolume {
  id: string;
  name: string;
  sizeBytes: number;
  format: 'raw' | 'qcow2';
}

/** The newest backup that can be restored, as far as anybody knows. */
export interface BestBackup {
  id: string;
  repositoryId: string;
  repository: string;
  checkpoint: string;
  sizeBytes: number;
  pointInTime: Date | null;
}

export class LossRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /**
   * An operator says that it does not come back: its volumes and repositories are lost, its backups missing. Runs that
   * work on its volumes are asked to end. Good to repeat. Rejects `storage-node-in-use` while it answers.
   */
  giveUp(id: string, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      await db.$queryRaw`SELECT 1 FROM storage_node WHERE id = ${id}::uuid FOR UPDATE`;
      const node = await db.storageNode.findUnique({ where: { id } });
      if (!node) throw notFound('storage-node', id);
      if (node.state === 'lost') return;
      if (node.state === 'online') throw stillThere(node.name);
      // The address may be that of the machine which takes its place.
      const data = {
        state: 'lost',
        cordonedAt: node.cordonedAt ?? this.#scope.now(),
        controlAddress: `lost:${id}`,
        lostAddress: node.controlAddress,
      };
      await db.storageNode.update({ where: { id }, data });
      const { name, controlAddress } = node;
      tell({
        kind: 'storage-node-lost',
        ...{ subjectType: 'storage-node', subjectId: id, runId },
        data: { name, controlAddress },
      });
      await loseRepositories(db, tell, { storageNodeId: id, runId });
      await loseVolumes(db, tell, { storageNodeId: id, runId });
    });
  }

  /** Of this storage node, and not restored elsewhere so far. */
  lostVolumes(storageNodeId: string): Promise<LostVolume[]> {
    return this.#scope.read(async db => {
      const where = { storageNodeId, state: 'lost' };
      const rows = await db.volume.findMany({ where, orderBy: [{ createdAt: 'asc' }, { id: 'asc' }] });
      return rows.map(({ id, name, sizeBytes, format }) => ({
        ...{ id, name, sizeBytes: Number(sizeBytes) },
        format: format === 'qcow2' ? 'qcow2' : 'raw',
      }));
    });
  }

  /** Which of these volumes another storage node has by now, complete. */
  async foundElsewhere(ids: readonly string[], storageNodeId: string): Promise<string[]> {
    const where = {
      id: { in: ids.filter(isId) },
      storageNodeId: { not: storageNodeId },
      state: { in: ['ready', 'moving', 'deleting'] },
    };
    const rows = await this.#scope.read(db => db.volume.findMany({ where, select: { id: true } }));
    return rows.map(({ id }) => id);
  }

  /** The oldest one that works on the volume; such as a move that may still bring it to safety, or its undoing. */
  unendedRun(volumeId: string): Promise<{ id: string; kind: string } | null> {
    const orderBy = { createdAt: 'asc' } as const;
    const where = needsVolume(volumeId);
    return this.#scope.read(db => db.run.findFirst({ where, orderBy, select: { id: true, kind: true } }));
  }

  /** Null: there is none; `why` then tells of each that is no good. */
  bestBackup(volumeId: string): Promise<{ best: BestBackup | null; why: string }> {
    return this.#scope.read(async db => {
      const rows = await db.backup.findMany({
        where: { volumeId, state: { in: ['available', 'missing'] } },
        include: { repository: { include: { storageNode: { select: { state: true } } } } },
        orderBy: [{ pointInTime: 'desc' }, { createdAt: 'desc' }],
      });
      const unsound = unsoundOf(await db.backup.findMany({ where: { volumeId } }));
      const faults: string[] = [];
      for (const { repository, ...row } of rows) {
        const fault = faultOf(row, repository, unsound.get(row.id) ?? null);
        if (fault !== null) faults.push(`${row.checkpointName} in '${repository.name}': ${fault}`);
        else {
          const { id, repositoryId, checkpointName: checkpoint, pointInTime } = row;
          const best = { id, repositoryId, repository: repository.name, checkpoint, pointInTime };
          return { best: { ...best, sizeBytes: Number(row.sizeBytes) }, why: faults.join('; ') };
        }
      }
      return { best: null, why: faults.join('; ') || 'it has no backup' };
    });
  }

  /**
   * The volume is being made from the backup, on that storage node, under its own id and name: with the run that does
   * it, which makes it lost again where it fails. Within a transaction. Rejects `volume-not-ready` where it is not lost
   * with `from` any more.
   */
  beginRestore(
    runId: string,
    wanted: { volume: LostVolume; backup: BestBackup; from: string; to: string; isInstant: boolean },
  ): Promise<RunRequest<'restore'>> {
    const { volume, backup, from, to: storageNodeId, isInstant } = wanted;
    const { id: volumeId, name } = volume;
    const format = isInstant ? 'qcow2' : volume.format;
    return this.#scope.write(async (db, tell) => {
      const sourceBackupId = isInstant ? backup.id : null;
      const facts = { storageNodeId, format, sizeBytes: BigInt(backup.sizeBytes), sourceBackupId };
      const where = { id: volumeId, storageNodeId: from, state: 'lost' };
      const data = { ...facts, state: 'creating', exportUri: null };
      if ((await db.volume.updateMany({ where, data })).count === 0) {
        const text = `Volume '${name}' is not lost any more: another run brings it back, or somebody has deleted it.`;
        throw new CatalogError('volume', 'not-ready', text);
      }
      await forgetPoints(db, volumeId);
      const first = { id: randomUUID(), volumeId, name: backup.checkpoint, originBackupId: backup.id };
      await db.checkpoint.create({ data: { ...first, state: 'creating' } });
      tell({ kind: 'volume-creating', subjectType: 'volume', subjectId: volumeId, runId, data: { name } });
      const about = { volumeId, name, storageNodeId, format } as const;
      return {
        ...{ backupId: backup.id, repositoryId: backup.repositoryId, sizeBytes: backup.sizeBytes },
        ...{ speedBytesPerSecond: null, onDamage: 'skip', recovers: from },
        checkpoint: { checkpointId: first.id, name: first.name },
        target: isInstant ? { instant: about } : { volume: about },
      };
    });
  }

  /** It came to nothing: lost as before, and asked for again with the same storage node. */
  endRestore(volumeId: string, storageNodeId: string, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      await forgetPoints(db, volumeId);
      await db.backupLease.deleteMany({ where: { holder: 'volume', holderId: volumeId } });
      const data = { storageNodeId, state: 'lost', exportUri: null, sourceBackupId: null };
      const { count } = await db.volume.updateMany({ where: { id: volumeId }, data });
      if (count === 1) tell({ kind: 'volume-lost', subjectType: 'volume', subjectId: volumeId, runId });
    });
  }
}

function stillThere(name: string): TidemarkError {
  const text =
    `Storage node '${name}' answers: it is not lost, and its volumes are in use there. Drain it instead, or stop it ` +
    'for good first.';
  return new TidemarkError('storage-node-in-use', text);
}

interface Loss {
  storageNodeId: string;
  runId: string;
}

async function loseRepositories(db: Db, tell: Tell, { storageNodeId, runId }: Loss): Promise<void> {
  const repositories = await db.repository.findMany({ where: { storageNodeId } });
  const repositoryId = { in: repositories.map(({ id }) => id) };
  await db.repository.updateMany({ where: { storageNodeId }, data: { state: 'lost' } });
  await db.backup.updateMany({
    where: { repositoryId, state: { in: ['available', 'hidden', 'removing'] } },
    data: { state: 'missing' },
  });
  for (const { id, name } of repositories) {
    tell({ kind: 'repository-lost', subjectType: 'repository', subjectId: id, runId, data: { name } });
  }
}

async function loseVolumes(db: Db, tell: Tell, { storageNodeId, runId }: Loss): Promise<void> {
  const where = { storageNodeId, state: { in: ['ready', 'moving', 'deleting'] } };
  const volumes = await db.volume.findMany({ where });
  const volumeId = { in: volumes.map(({ id }) => id) };
  await db.volume.updateMany({ where: { id: volumeId }, data: { state: 'lost', exportUri: null } });
  await db.run.updateMany({ where: needsVolume(volumeId), data: { cancelRequested: true } });
  for (const { id, name } of volumes) {
    tell({ kind: 'volume-lost', subjectType: 'volume', subjectId: id, runId, data: { name } });
  }
}

/** Its checkpoints and snapshots went with their bitmaps and images. */
async function forgetPoints(db: Db, volumeId: string): Promise<void> {
  await db.checkpoint.deleteMany({ where: { volumeId } });
  await db.snapshot.deleteMany({ where: { volumeId } });
  await db.volumeCommit.deleteMany({ where: { volumeId } });
}

function faultOf(
  { state, distrusted }: { state: string; distrusted: boolean },
  repository: { state: string; storageNode: { state: string } },
  unsound: string | null,
): string | null {
  if (state === 'missing') return 'its repository does not have it';
  if (repository.state !== 'ready') return `the repository is ${repository.state}`;
  if (repository.storageNode.state !== 'online') return `its storage node is ${repository.storageNode.state}`;
  if (distrusted) return 'an audit found that it may lack changes';
  return unsound;
}
