// Volumes: names and intents. Whether the image exists is the storage node's to say.
import type { Labels, Selector } from '@tidemark/proto';
import { dropLeases } from './backup-lease-repository.ts';
import { CatalogError, isForeignKeyViolation, nameTaken, notFound } from './errors.ts';
import { Prisma } from './generated/client.ts';
import type { VolumeModel } from './generated/models.ts';
import { latestPossible } from './moments.ts';
import { type Page, type PageOptions, pageQuery, toPage } from './page.ts';
import { byRef, isId } from './ref.ts';
import type { JsonObject } from './run.ts';
import type { Db, Scope } from './scope.ts';
import { type ChosenFilter, chosenIds, selectorCondition } from './selected.ts';
import { requireNoCommit } from './unended-commit.ts';
import { requireNoGroup } from './unended-group.ts';
import { needsVolume } from './unended-run.ts';
import { isVisible, requireVisible } from './visibility.ts';

/** `moving`: to another storage node. `lost`: with its storage node. */
export type VolumeState = 'creating' | 'ready' | 'deleting' | 'moving' | 'lost';
export type VolumeFormat = 'raw' | 'qcow2';
export type AuditResult = 'equal' | 'different';

export interface Volume {
  id: string;
  name: string;
  storageNodeId: string;
  /** Name of the storage node. */
  storageNode: string;
  sizeBytes: number;
  format: VolumeFormat;
  state: VolumeState;
  /** nbd://host:port/name; null until the volume was ready once. */
  exportUri: string | null;
  /** Most checkpoints that it may have. */
  checkpointLimit: number;
  /** When its bitmaps were last compared with a backup, and how that ended. */
  auditedAt: Date | null;
  auditResult: AuditResult | null;
  /** Of the last audit that ended `different`: no increment builds on what is not newer, whatever later audits say. */
  distrustedUntil: Date | null;
  /** A restore of this backup over it did not come to its end: it may hold a mixture of both. */
  mixedWithBackupId: string | null;
  /** Of an instant restore, until all of it is pulled: the backup that it still reads. */
  sourceBackupId: string | null;
  labels: Labels;
  createdAt: Date;
}

export interface NewVolume {
  id: string;
  name: string;
  storageNodeId: string;
  sizeBytes: number;
  format: VolumeFormat;
  /** It reads this backup until all of it is pulled. */
  sourceBackupId?: string;
  /** Default none. */
  labels?: Labels;
}

/** A statement has at most 65,535 parameters. */
const IDS_AT_ONCE = 5_000;

const include = { storageNode: { select: { name: true } } } as const;

function toVolume(row: VolumeModel & { storageNode: { name: string } }): Volume {
  return {
    ...row,
    storageNode: row.storageNode.name,
    sizeBytes: Number(row.sizeBytes),
    format: row.format as VolumeFormat,
    labels: row.labels as Labels,
    state: row.state as VolumeState,
    auditResult: row.auditResult as AuditResult | null,
  };
}

export class VolumeRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** State `creating`. Rejects `name-taken`, and `storage-node-not-found`. */
  create(volume: NewVolume, runId: string | null = null): Promise<Volume> {
    requireVisible(this.#scope, volume.name, volume.labels ?? {});
    return this.#scope.write(async (db, tell) => {
      const row = await db.volume
        .create({ data: { ...volume, sizeBytes: BigInt(volume.sizeBytes), state: 'creating' }, include })
        .catch(error => {
          if (isForeignKeyViolation(error)) throw notFound('storage-node', volume.storageNodeId);
          return nameTaken('volume', volume.name)(error);
        });
      const data = { name: row.name, sizeBytes: volume.sizeBytes };
      tell({ kind: 'volume-creating', subjectType: 'volume', subjectId: row.id, runId, data });
      return toVolume(row);
    });
  }

  async find(ref: string): Promise<Volume | null> {
    const row = await this.#scope.read(db => db.volume.findUnique({ where: byRef(ref), include }));
    return row && isVisible(this.#scope, row.labels as Labels) ? toVolume(row) : null;
  }

  /** Rejects `not-found`. */
  async get(ref: string): Promise<Volume> {
    const volume = await this.find(ref);
    if (!volume) throw notFound('volume', ref);
    return volume;
  }

  /**
   * As `get`, and rejects `not-ready` when it is being made or deleted. Within a transaction nothing else
   * changes the row until its end.
   */
  getReady(ref: string): Promise<Volume> {
    return this.#scope.write(async db => {
      const which = isId(ref) ? Prisma.sql`id = ${ref}::uuid` : Prisma.sql`name = ${ref}`;
      const held = await db.$queryRaw<
        { id: string }[]
      >`SELECT id::text FROM volume WHERE ${which} FOR UPDATE`;
      const volume = await this.get(held[0]?.id ?? ref);
      if (volume.state !== 'ready') {
        throw new CatalogError(
          'volume',
          'not-ready',
          volume.state === 'lost'
            ? `Volume '${volume.name}' is lost with storage node '${volume.storageNode}'. Recover that one first.`
            : `Volume '${volume.name}' is ${volume.state}. Wait until its run has ended.`,
        );
      }
      return volume;
    });
  }

  /** What a selector chooses of what is there for whoever asks. */
  #visible(selector: Selector = []): Selector {
    return [...selector, ...(this.#scope.acting()?.visible ?? [])];
  }

  /** Oldest first. */
  list(options: PageOptions & ChosenFilter = {}): Promise<Page<Volume>> {
    const { after, orderBy, take, limit } = pageQuery(options, 'asc');
    const chosen = { ...options, selector: this.#visible(options.selector) };
    return this.#scope.read(async db => {
      const where = { AND: [after, await chosenIds(db, 'volume', chosen)] };
      return toPage(await db.volume.findMany({ where, orderBy, take, include }), limit, toVolume);
    });
  }

  /** All that the selector chooses, oldest first. `states`: only these; all unless told. */
  listSelected(selector: Selector, { states }: { states?: readonly VolumeState[] } = {}): Promise<Volume[]> {
    return this.#scope.read(async db => {
      const chosen = await db.$queryRaw<{ id: string }[]>`
        SELECT id FROM volume WHERE ${selectorCondition(this.#visible(selector))} ORDER BY created_at, id`;
      const volumes: Volume[] = [];
      for (let start = 0; start < chosen.length; start += IDS_AT_ONCE) {
        const ids = chosen.slice(start, start + IDS_AT_ONCE).map(({ id }) => id);
        const where = { id: { in: ids }, ...(states && { state: { in: [...states] } }) };
        const orderBy = [{ createdAt: 'asc' as const }, { id: 'asc' as const }];
        volumes.push(...(await db.volume.findMany({ where, include, orderBy })).map(toVolume));
      }
      return volumes;
    });
  }

  /** Those of the ids that it chooses. */
  async whichSelected(ids: readonly string[], selector: Selector): Promise<Set<string>> {
    const rows = await this.#scope.read(
      db => db.$queryRaw<{ id: string }[]>`
        SELECT id::text FROM volume
        WHERE id = ANY(${ids}::uuid[]) AND ${selectorCondition(this.#visible(selector))}`,
    );
    return new Set(rows.map(({ id }) => id));
  }

  /** Of its checkpoints those that it has stay, also where they are more. Labels are replaced. Rejects `not-found`. */
  update(id: string, changes: { checkpointLimit?: number; labels?: Labels }): Promise<Volume> {
    const { checkpointLimit, labels } = changes;
    const data = {
      ...(checkpointLimit !== undefined && { checkpointLimit }),
      ...(labels !== undefined && { labels }),
    };
    return this.#scope.write(async (db, tell) => {
      if (labels !== undefined) requireVisible(this.#scope, (await this.get(id)).name, labels);
      const row = await db.volume.updateManyAndReturn({ where: { id }, data, include });
      if (!row[0]) throw notFound('volume', id);
      tell({ kind: 'volume-updated', subjectType: 'volume', subjectId: id, data });
      return toVolume(row[0]);
    });
  }

  /** The storage node has it. Rejects `not-found`. */
  markReady(
    id: string,
    facts: { exportUri: string; sizeBytes: number },
    runId: string | null,
  ): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const { count } = await db.volume.updateMany({
        where: { id },
        data: { state: 'ready', exportUri: facts.exportUri, sizeBytes: BigInt(facts.sizeBytes) },
      });
      if (count === 0) throw notFound('volume', id);
      tell({
        kind: 'volume-ready',
        subjectType: 'volume',
        subjectId: id,
        runId,
        data: { exportUri: facts.exportUri },
      });
    });
  }

  /**
   * Bitmaps were compared with a backup. `at`: the moment that was looked at, by the storage node's clock. After
   * `different` nothing builds on the volume's backups, also when a later one ends well, but for full ones of a later
   * moment and what stands on these.
   */
  markAudited(
    id: string,
    { at, result, data }: { at: Date; result: AuditResult; data: JsonObject },
    runId: string,
  ): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const verdict = { auditedAt: at, auditResult: result };
      await db.volume.updateMany({
        where: { id },
        data: { ...verdict, ...(result === 'different' && { distrustedUntil: at }) },
      });
      if (result === 'different')
        await distrustBackups(db, { volumeId: id, at, latest: latestPossible(this.#scope.now()) });
      const kind = result === 'equal' ? 'bitmap-audited' : 'bitmap-audit-failed';
      tell({ kind, subjectType: 'volume', subjectId: id, runId, data });
    });
  }

  /**
   * A deletion begins. Rejects `not-found`, and `busy` while another unended run or a commit works on the
   * volume; the message names it.
   */
  markDeleting(id: string, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      await db.$queryRaw`SELECT 1 FROM volume WHERE id = ${id}::uuid FOR UPDATE`;
      const volume = await this.get(id);
      const run = await db.run.findFirst({
        where: {
          ...needsVolume(id),
          id: { not: runId },
          // One that only pulls what the volume has not yet ends with it.
          ...(volume.sourceBackupId !== null && volume.state === 'ready' && { NOT: { kind: 'restore' } }),
        },
      });
      if (run) {
        throw new CatalogError(
          'volume',
          'busy',
          `Volume '${volume.name}' is used by ${run.kind} run ${run.id}. Wait for it, or cancel it.`,
        );
      }
      await requireNoCommit(db, volume);
      await requireNoGroup(db, volume);
      await db.volume.update({ where: { id }, data: { state: 'deleting' } });
      tell({
        kind: 'volume-deleting',
        subjectType: 'volume',
        subjectId: id,
        runId,
        data: { name: volume.name },
      });
    });
  }

  /** A deletion that was given up: `deleting` becomes `ready` again. */
  unmarkDeleting(id: string, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const { count } = await db.volume.updateMany({
        where: { id, state: 'deleting' },
        data: { state: 'ready' },
      });
      if (count === 1) tell({ kind: 'volume-ready', subjectType: 'volume', subjectId: id, runId });
    });
  }

  /** A restore over it has come to its end, whatever those before it left. */
  noteWhole(id: string): Promise<void> {
    return this.#scope.write(async db => {
      await db.volume.updateMany({ where: { id }, data: { mixedWithBackupId: null } });
    });
  }

  /** A restore over it did not come to its end: it may hold neither the old contents nor the backup's. */
  noteMixed(id: string, data: { backupId: string }, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      await db.volume.updateMany({ where: { id }, data: { mixedWithBackupId: data.backupId } });
      tell({ kind: 'volume-contents-mixed', subjectType: 'volume', subjectId: id, runId, data });
    });
  }

  /** All of the backup of an instant restore is pulled. Good to repeat. */
  markAlone(id: string, runId: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      await dropLeases(db, 'volume', id);
      const { count } = await db.volume.updateMany({
        where: { id, sourceBackupId: { not: null } },
        data: { sourceBackupId: null },
      });
      if (count === 1) tell({ kind: 'volume-stands-alone', subjectType: 'volume', subjectId: id, runId });
    });
  }

  /** The row with its checkpoints and what it held; backups stay. Its last labels are told. Good to repeat. */
  delete(id: string, runId: string | null): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      await dropLeases(db, 'volume', id);
      const row = await db.volume.findUnique({ where: { id }, select: { name: true, labels: true } });
      const { count } = await db.volume.deleteMany({ where: { id } });
      if (row === null || count === 0) return;
      // By its last labels is known from now on who was to know of it.
      const data = { name: row.name, labels: row.labels as Labels };
      tell({ kind: 'volume-deleted', subjectType: 'volume', subjectId: id, runId, data });
    });
  }
}

/**
 * Of a full backup every byte was read from the disk. One that came to be by merging increments into a full one has
 * theirs. A moment after `latest` tells nothing of what came first: a clock was set back since.
 */
async function distrustBackups(
  db: Db,
  { volumeId, at, latest }: { volumeId: string; at: Date; latest: Date },
): Promise<void> {
  await db.$executeRaw`
    WITH RECURSIVE sound AS (
      SELECT id FROM backup WHERE volume_id = ${volumeId}::uuid AND kind = 'full'
        AND (point_in_time IS NULL OR (point_in_time > ${at} AND point_in_time <= ${latest}))
        AND NOT EXISTS (SELECT 1 FROM event WHERE subject_id = backup.id AND event.kind = 'backup-merged')
      UNION SELECT child.id FROM backup child JOIN sound ON child.parent_id = sound.id
    )
    UPDATE backup SET distrusted = true
    WHERE volume_id = ${volumeId}::uuid AND id NOT IN (SELECT id FROM sound)`;
}
