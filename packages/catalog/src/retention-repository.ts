// Backups on their way out: hidden by an intent, taken out of their chains one by one, gone. And checkpoints that
// nobody needs any more.
import type { EventKind } from '@tidemark/proto';
import { type VolumeOfCheckpoints, volumesOf } from './checkpoint-holders.ts';
import { rangesJson, rangesOf, unionOf, without } from './damaged-ranges.ts';
import { CatalogError, notFound } from './errors.ts';
import { claimedByOthers, hiddenBy, turnHolder } from './prune-turns.ts';
import { REMOVED } from './removed-since.ts';
import { type RetentionRow, retentionRows, type SomeBackups } from './retention-rows.ts';
import type { Db, Scope } from './scope.ts';

/** What a repository says of a backup whose parent was merged into it. */
export interface MergedBackup {
  id: string;
  parentId: string | null;
  kind: string;
  reason: string;
  storedBytes: number;
}

export interface UnusedCheckpoint {
  id: string;
  volumeId: string;
  name: string;
}

/** A statement has at most 65,535 parameters. */
const IDS_AT_ONCE = 5_000;
/** A volume has some hundred checkpoints and backups. */
const VOLUMES_AT_ONCE = 500;

export class RetentionRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** All backups of the repository, oldest first. Within a transaction nobody takes a lease on one until its end. */
  lockBackups(repositoryId: string): Promise<RetentionRow[]> {
    return this.#scope.write(async db => {
      await db.$queryRaw`SELECT 1 FROM backup WHERE repository_id = ${repositoryId}::uuid ORDER BY id FOR UPDATE`;
      return retentionRows(db, repositoryId);
    });
  }

  /** The same, to look at; of some of them alone where that is asked. */
  backups(repositoryId: string, some?: SomeBackups): Promise<RetentionRow[]> {
    return this.#scope.read(db => retentionRows(db, repositoryId, some));
  }

  /** Within a transaction nobody takes a lease on a backup of the volumes there until its end. */
  async holdBackups(repositoryId: string, volumeIds: readonly string[]): Promise<void> {
    await this.#scope.write(
      db => db.$queryRaw`
        SELECT 1 FROM backup WHERE repository_id = ${repositoryId}::uuid AND volume_id = ANY(${volumeIds}::uuid[])
        ORDER BY id FOR UPDATE`,
    );
  }

  /** Ids of the volumes that have backups in any of the repositories. */
  async volumesIn(repositoryIds: readonly string[]): Promise<string[]> {
    const rows = await this.#scope.read(
      db => db.$queryRaw<{ id: string }[]>`
        SELECT DISTINCT volume_id::text AS id FROM backup WHERE repository_id = ANY(${repositoryIds}::uuid[])`,
    );
    return rows.map(({ id }) => id);
  }

  /** Ids of other volumes with backups that stand directly on one of theirs. */
  async volumesAbove(volumeIds: readonly string[]): Promise<string[]> {
    const rows = await this.#scope.read(
      db => db.$queryRaw<{ id: string }[]>`
        SELECT DISTINCT child.volume_id::text AS id
        FROM backup AS parent JOIN backup AS child ON child.parent_id = parent.id
        WHERE parent.volume_id = ANY(${volumeIds}::uuid[]) AND child.volume_id <> parent.volume_id`,
    );
    return rows.map(({ id }) => id);
  }

  /** Ids of those that stand on it directly. */
  async childrenOf(id: string): Promise<string[]> {
    const rows = await this.#scope.read(db =>
      db.backup.findMany({ where: { parentId: id }, select: { id: true } }),
    );
    return rows.map(row => row.id);
  }

  /** Available backups are hidden: nobody begins to use them any more, and they go when that is possible. */
  hide(ids: readonly string[], runId: string): Promise<void> {
    return this.#change(ids, { from: ['available'], to: 'hidden', event: 'backup-hidden', runId });
  }

  /** Its removal begins, or goes on; false: it is not, or no longer, to go. Good to repeat. */
  markRemoving(id: string, runId: string): Promise<boolean> {
    return this.#scope.write(async (db, tell) => {
      const where = { id, state: 'hidden' };
      const { count } = await db.backup.updateMany({ where, data: { state: 'removing' } });
      if (count === 1) tell({ kind: 'backup-removing', subjectType: 'backup', subjectId: id, runId });
      return (await db.backup.count({ where: { id, state: 'removing' } })) === 1;
    });
  }

  /** Its removal has to wait, or was given up. Good to repeat. */
  markHidden(id: string, runId: string): Promise<void> {
    return this.#change([id], { from: ['removing'], to: 'hidden', event: 'backup-hidden', runId });
  }

  /** The repository never heard that it was to go: it is as it was. Good to repeat. */
  unhide(id: string, runId: string): Promise<void> {
    const from = ['hidden', 'removing'];
    return this.#change([id], { from, to: 'available', event: 'backup-available', runId });
  }

  /** Id of another prune that works on the repository; null: nobody does. */
  turnHolder(repositoryId: string, runId: string): Promise<string | null> {
    return this.#scope.read(db => turnHolder(db, { repositoryId, runId }));
  }

  /** The same, within the transaction that takes the turn: nobody else takes it until that has ended. */
  lockTurn(repositoryId: string, runId: string): Promise<string | null> {
    return this.#scope.write(async db => {
      await db.$queryRaw`SELECT 1 FROM repository WHERE id = ${repositoryId}::uuid FOR UPDATE`;
      return turnHolder(db, { repositoryId, runId });
    });
  }

  /** Backups that other prunes of the repository, which have not ended, were asked to take out. */
  claimedByOthers(repositoryId: string, runId: string): Promise<ReadonlySet<string>> {
    return this.#scope.read(db => claimedByOthers(db, { repositoryId, runId }));
  }

  /** Of a prune that never had its turn: what its intent has hidden is available again, unless others want it gone. */
  withdrawPrune(repositoryId: string, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const others = await claimedByOthers(db, { repositoryId, runId });
      for (const id of await hiddenBy(db, runId)) {
        if (others.has(id)) continue;
        const where = { id, state: 'hidden' };
        const { count } = await db.backup.updateMany({ where, data: { state: 'available' } });
        if (count === 1) tell({ kind: 'backup-available', subjectType: 'backup', subjectId: id, runId });
      }
    });
  }

  /**
   * It is out of its chain: those that stood on it are as `children` says, and its row goes. Good to repeat, also at
   * once. Rejects `backup-in-use`, with nothing changed, when one would still stand on it.
   */
  finish(id: string, children: readonly MergedBackup[], runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      await db.$queryRaw`
        SELECT 1 FROM backup WHERE id = ${id}::uuid OR parent_id = ${id}::uuid ORDER BY id FOR UPDATE`;
      const row = await db.backup.findUnique({ where: { id } });
      if (row === null) return;
      await requireNoOther(db, id, children);
      let freedBytes = row.storedBytes ?? 0n;
      for (const { id: childId, storedBytes, ...facts } of children) {
        const child = await db.backup.findUnique({ where: { id: childId } });
        if (child === null) continue;
        freedBytes += (child.storedBytes ?? 0n) - BigInt(storedBytes);
        const data = { ...facts, ...inheritedDamage(row, child), storedBytes: BigInt(storedBytes) };
        await db.backup.update({ where: { id: childId }, data });
        tell({
          kind: 'backup-merged',
          subjectType: 'backup',
          subjectId: childId,
          runId,
          data: { parent: id },
        });
      }
      await db.backup.delete({ where: { id } });
      const { volumeId, checkpointName: checkpoint } = row;
      const data = { freedBytes: Number(freedBytes), checkpoint, volumeId };
      tell({ kind: REMOVED, subjectType: 'backup', subjectId: id, runId, data });
    });
  }

  /** What the run has taken out so far, in that order. */
  async removedBy(runId: string): Promise<{ id: string; freedBytes: number }[]> {
    const where = { runId, kind: REMOVED, subjectType: 'backup' };
    const events = await this.#scope.read(db => db.event.findMany({ where, orderBy: { id: 'asc' } }));
    return events.map(({ subjectId, data }) => ({
      id: subjectId,
      freedBytes: (data as { freedBytes: number }).freedBytes,
    }));
  }

  /** Of an available backup; `pinnedUntil` null: no longer protected. Rejects `not-found`. */
  change(
    id: string,
    change: { description?: string | undefined; pinnedUntil?: Date | null | undefined },
  ): Promise<void> {
    const { description, pinnedUntil } = change;
    return this.#scope.write(async (db, tell) => {
      const before = await db.backup.findFirst({ where: { id, state: 'available' } });
      if (before === null) throw notFound('backup', id);
      const next = {
        description: description ?? before.description,
        pinnedUntil: pinnedUntil === undefined ? before.pinnedUntil : pinnedUntil,
      };
      await db.backup.update({ where: { id }, data: next });
      const data = { ...next, pinnedUntil: next.pinnedUntil?.toISOString() ?? null };
      tell({ kind: 'backup-updated', subjectType: 'backup', subjectId: id, data });
    });
  }

  /**
   * Checkpoints of the volumes that were made with a backup, that no backup in any repository has any more but those
   * of `without`, that are not pinned, and that are not the newest. Of each volume the oldest first.
   */
  unusedCheckpoints(
    volumeIds: readonly string[],
    without: ReadonlySet<string> = new Set(),
  ): Promise<UnusedCheckpoint[]> {
    return this.#scope.read(async db => {
      const unused: UnusedCheckpoint[] = [];
      for (let start = 0; start < volumeIds.length; start += VOLUMES_AT_ONCE) {
        const some = volumeIds.slice(start, start + VOLUMES_AT_ONCE);
        unused.push(...(await unusedOf(db, { volumeIds: some, without, now: this.#scope.now() })));
      }
      return unused;
    });
  }

  /** All checkpoints of the volumes that are still there, with all backups that hold them. */
  checkpoints(volumeIds: readonly string[]): Promise<VolumeOfCheckpoints[]> {
    return this.#scope.read(async db => {
      const volumes: VolumeOfCheckpoints[] = [];
      for (let start = 0; start < volumeIds.length; start += VOLUMES_AT_ONCE) {
        volumes.push(...(await volumesOf(db, volumeIds.slice(start, start + VOLUMES_AT_ONCE))));
      }
      return volumes;
    });
  }

  #change(
    ids: readonly string[],
    { from, to, event, runId }: { from: string[]; to: string; event: EventKind; runId: string },
  ): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      for (let start = 0; start < ids.length; start += IDS_AT_ONCE) {
        const where = { id: { in: ids.slice(start, start + IDS_AT_ONCE) }, state: { in: from } };
        const changed = await db.backup.updateManyAndReturn({
          where,
          data: { state: to },
          select: { id: true },
        });
        for (const { id } of changed) tell({ kind: event, subjectType: 'backup', subjectId: id, runId });
      }
    });
  }
}

/** Rejects where a row stands on the backup and the repository does not say what else it stands on. */
async function requireNoOther(db: Db, id: string, children: readonly MergedBackup[]): Promise<void> {
  const moved = children.filter(({ parentId }) => parentId !== id).map(child => child.id);
  const where = { parentId: id, id: { notIn: moved } };
  const left = await db.backup.findFirst({ where, select: { id: true } });
  if (left === null) return;
  throw new CatalogError('backup', 'in-use', `Backup ${id} cannot go: backup ${left.id} still stands on it.`);
}

async function unusedOf(
  db: Db,
  { volumeIds, without, now }: { volumeIds: readonly string[]; without: ReadonlySet<string>; now: Date },
): Promise<UnusedCheckpoint[]> {
  const volumeId = { in: [...volumeIds] };
  const rows = await db.checkpoint.findMany({
    where: { volumeId },
    orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
  });
  const backups = await db.backup.findMany({
    where: { volumeId },
    select: { id: true, checkpointId: true },
  });
  const needed = new Set(
    backups.filter(({ id }) => !without.has(id)).map(({ checkpointId }) => checkpointId),
  );
  const older = [...Map.groupBy(rows, row => row.volumeId).values()]
    .flatMap(ofVolume => ofVolume.slice(0, -1))
    .filter(({ id, state }) => state === 'ready' && !needed.has(id))
    .filter(({ pinnedUntil }) => pinnedUntil === null || pinnedUntil <= now);
  const madeWithBackup = new Set<string | null>();
  for (let start = 0; start < older.length; start += IDS_AT_ONCE) {
    const checkpointId = { in: older.slice(start, start + IDS_AT_ONCE).map(({ id }) => id) };
    const where = { volumeId, kind: 'backup', checkpointId };
    for (const run of await db.run.findMany({ where, select: { checkpointId: true } })) {
      madeWithBackup.add(run.checkpointId);
    }
  }
  return older.filter(({ id }) => madeWithBackup.has(id));
}

/** What is known of the damage of a backup that stands in for the one below it, too, from now on. */
function inheritedDamage(below: DamageColumns, own: DamageColumns) {
  const resent = rangesOf(own.resent);
  const damage = unionOf([...rangesOf(own.damage), ...without(rangesOf(below.damage), resent)]);
  return {
    ...(damage.length > 0 && { damage: rangesJson(damage) }),
    ...(below.resent !== null && { resent: rangesJson(unionOf([...resent, ...rangesOf(below.resent)])) }),
  };
}

interface DamageColumns {
  readonly damage: unknown;
  readonly resent: unknown;
}
