// Volumes on their way to another storage node. Which one owns a volume is one column of its row: it changes in the
// transaction that records the step after which the target has all of it (ADR 0055).
import { CatalogError, notFound } from './errors.ts';
import type { Db, Scope } from './scope.ts';
import { requireNoCommit } from './unended-commit.ts';
import { requireNoGroup } from './unended-group.ts';
import { needsVolume } from './unended-run.ts';

export class MoveRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /**
   * `ready` becomes `moving`: nothing new begins with the volume until the run has ended. Rejects `volume-not-found`,
   * `volume-not-ready`, and `volume-busy` while something relies on its images, or a run works on it.
   */
  begin(id: string, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      await db.$queryRaw`SELECT 1 FROM volume WHERE id = ${id}::uuid FOR UPDATE`;
      const volume = await db.volume.findUnique({ where: { id } });
      if (!volume) throw notFound('volume', id);
      const { name, state, sourceBackupId } = volume;
      if (state !== 'ready') {
        const text = `Volume '${name}' is ${state}. Wait until its run has ended.`;
        throw new CatalogError('volume', 'not-ready', text);
      }
      if (sourceBackupId !== null) {
        const text = `Volume '${name}' still reads from backup ${sourceBackupId}. Wait until all of it is pulled.`;
        throw new CatalogError('volume', 'busy', text);
      }
      await requireNoSnapshots(db, { id, name });
      await requireNoCommit(db, volume);
      await requireNoGroup(db, volume);
      const live = { ...needsVolume(id), id: { not: runId } };
      const run = await db.run.findFirst({ where: live });
      if (run) {
        const text = `Volume '${name}' is used by ${run.kind} run ${run.id}. Wait for it, or cancel it.`;
        throw new CatalogError('volume', 'busy', text);
      }
      await db.volume.update({ where: { id }, data: { state: 'moving' } });
      tell({ kind: 'volume-moving', subjectType: 'volume', subjectId: id, runId, data: { name } });
    });
  }

  /** Whether that storage node owns it. */
  async hasSwitched(id: string, storageNodeId: string): Promise<boolean> {
    const where = { id, storageNodeId };
    return (await this.#scope.read(db => db.volume.count({ where }))) > 0;
  }

  /**
   * From here on `to` owns the volume; where its guest connects is not known yet. Also where `from` was given up just
   * now: all of the volume is with the other. Good to repeat by the run that moves it. Rejects `volume-not-ready`
   * where it is no longer that of `from`.
   */
  switchTo(id: string, { from, to }: { from: string; to: string }): Promise<void> {
    return this.#scope.write(async db => {
      const { count } = await db.volume.updateMany({
        where: { id, storageNodeId: from, state: { in: ['moving', 'lost'] } },
        data: { state: 'moving', storageNodeId: to, exportUri: null },
      });
      // It may have been done without an answer that was heard.
      const isDone =
        count === 1 || (await db.volume.count({ where: { id, storageNodeId: to, state: 'moving' } })) === 1;
      if (isDone) return;
      const text = `Volume ${id} is not the one that moves any more: it was given up, and restored elsewhere.`;
      throw new CatalogError('volume', 'not-ready', text);
    });
  }

  /** Its guest may come, at this address; without effect where `toId` was given up before. */
  finish(
    id: string,
    { from, to, toId, exportUri }: { from: string; to: string; toId: string; exportUri: string },
    runId: string,
  ): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const { count } = await db.volume.updateMany({
        where: { id, storageNodeId: toId, state: 'moving' },
        data: { state: 'ready', exportUri },
      });
      if (count === 0) return;
      tell({
        kind: 'volume-moved',
        subjectType: 'volume',
        subjectId: id,
        runId,
        data: { from, to, exportUri },
      });
    });
  }

  /** It stays with the storage node that owns it now. */
  withdraw(id: string, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const { count } = await db.volume.updateMany({
        where: { id, state: 'moving' },
        data: { state: 'ready' },
      });
      if (count === 1) tell({ kind: 'volume-ready', subjectType: 'volume', subjectId: id, runId });
    });
  }
}

async function requireNoSnapshots(db: Db, { id, name }: { id: string; name: string }): Promise<void> {
  const snapshots = await db.snapshot.findMany({ where: { volumeId: id }, select: { name: true } });
  if (snapshots.length === 0) return;
  const names = snapshots.map(snapshot => `'${snapshot.name}'`).join(', ');
  const text = `Volume '${name}' has snapshots (${names}), which cannot move. Commit them into the volume first.`;
  throw new CatalogError('volume', 'busy', text);
}
