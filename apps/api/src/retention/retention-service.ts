// Retention: prunes by rules, backups that an operator lets go one by one, and protection from both.
import {
  type Backup,
  type Catalog,
  type CatalogTransaction,
  intendPrune,
  isId,
  type Repository,
  type RetentionRow,
} from '@tidemark/catalog';
import { TidemarkError } from '@tidemark/proto';
import { toBackupJson } from '../backups/backup-service.ts';
import type { StartedRun } from '../runs/run-json.ts';
import type { RunStarter } from '../runs/run-starter.ts';
import type { BackupJson } from '../schemas/backup.ts';
import type { Prune, PruneCheckpoint, PruneItem, UpdateBackup } from '../schemas/retention.ts';
import { requireOnline } from '../storage-nodes/storage-node-service.ts';
import { planPrune } from './prune-plan.ts';

export interface PlannedPrune {
  readonly items: PruneItem[];
  readonly checkpoints: PruneCheckpoint[];
  readonly freedBytes: number;
}

export class RetentionService {
  readonly #catalog: Catalog;
  readonly #runs: RunStarter;
  readonly #now: () => Date;

  constructor(catalog: Catalog, runs: RunStarter, now: () => Date = () => new Date()) {
    this.#catalog = catalog;
    this.#runs = runs;
    this.#now = now;
  }

  /** Changes nothing. */
  async plan(body: Prune): Promise<PlannedPrune> {
    const { items, checkpoints, freedBytes } = await this.#catalog.transaction(async catalog => {
      const repository = await catalog.repositories.get(body.repository);
      return this.#plan(catalog, body, repository, await catalog.retention.backups(repository.id));
    });
    return { items, checkpoints, freedBytes };
  }

  /** What goes is hidden at once, with the run that takes it out. */
  prune(body: Prune): Promise<StartedRun<PlannedPrune>> {
    return this.#runs.start(async (catalog, runId) => {
      const repository = await readyRepository(catalog, body.repository);
      const rows = await catalog.retention.lockBackups(repository.id);
      const { items, checkpoints, freedBytes, ...going } = await this.#plan(catalog, body, repository, rows);
      const speedBytesPerSecond = body.speedBytesPerSecond ?? null;
      const { goingIds: backupIds, volumeIds } = going;
      const run = await intendPrune(catalog, runId, {
        repository,
        backupIds,
        volumeIds,
        speedBytesPerSecond,
      });
      return { run, items, checkpoints, freedBytes };
    });
  }

  /** Refuses what is pinned or in use. One that is on its way out already is tried again. */
  delete(id: string): Promise<StartedRun<{ backup: BackupJson }>> {
    return this.#runs.start(async (catalog, runId) => {
      const { repositoryId } = await catalog.backups.get(id);
      const repository = await readyRepository(catalog, repositoryId);
      await catalog.retention.lockBackups(repositoryId);
      const backup = await catalog.backups.get(id);
      await this.#requireRemovable(catalog, backup);
      const volumeIds = [backup.volumeId];
      const wanted = { repository, backupIds: [id], volumeIds, speedBytesPerSecond: null };
      const run = await intendPrune(catalog, runId, { ...wanted, backupId: id });
      return { run, backup: toBackupJson(await catalog.backups.get(id)) };
    });
  }

  async update(id: string, { description, pinnedUntil }: UpdateBackup): Promise<BackupJson> {
    return this.#catalog.transaction(async catalog => {
      const backup = await catalog.backups.get(id);
      if (backup.state !== 'available') {
        throw new TidemarkError(
          'backup-not-usable',
          `Backup ${id} is ${backup.state}: only an available one can be protected or described.`,
        );
      }
      const until = pinnedUntil == null ? pinnedUntil : new Date(pinnedUntil);
      await catalog.retention.change(id, { description, pinnedUntil: until });
      return toBackupJson(await catalog.backups.get(id));
    });
  }

  async #plan(
    catalog: CatalogTransaction,
    { volume, keep, timeZone }: Prune,
    { id: repositoryId }: Repository,
    rows: readonly RetentionRow[],
  ) {
    const volumeId = volume === undefined ? undefined : await volumeIdOf(catalog, volume);
    return planPrune(catalog, rows, { keep, timeZone, volumeId, repositoryId, now: this.#now() });
  }

  async #requireRemovable(catalog: CatalogTransaction, backup: Backup): Promise<void> {
    const { id, state, pinnedUntil } = backup;
    if (state === 'creating') {
      throw new TidemarkError('backup-not-usable', `Backup ${id} is being made. Cancel its run instead.`);
    }
    if (state === 'missing') {
      throw new TidemarkError(
        'backup-not-usable',
        `Backup ${id} is missing from its repository, so there is nothing to remove. Put its files back, or forget ` +
          'it: find its difference with `tidemark difference list`, and then say `tidemark difference repair ' +
          'DIFFERENCE forget`.',
      );
    }
    if (state !== 'available') return;
    if (pinnedUntil !== null && pinnedUntil > this.#now()) {
      throw new TidemarkError(
        'backup-pinned',
        `Backup ${id} is protected until ${pinnedUntil.toISOString()}. Take its protection away first, or wait.`,
      );
    }
    const [lease] = await catalog.backupLeases.holders(id);
    if (lease === undefined) return;
    const next = lease.holder === 'run' ? 'Wait for it, or cancel it' : 'Wait until it stands alone';
    throw new TidemarkError(
      'backup-in-use',
      `Backup ${id} is in use by ${lease.holder} ${lease.holderId}. ${next}.`,
    );
  }
}

async function readyRepository(catalog: CatalogTransaction, ref: string): Promise<Repository> {
  const repository = await catalog.repositories.getReady(ref);
  requireOnline(await catalog.storageNodes.get(repository.storageNodeId));
  return repository;
}

/** Backups outlive their volume: an id is taken as it is. */
async function volumeIdOf(catalog: CatalogTransaction, ref: string): Promise<string> {
  return isId(ref) ? ref.toLowerCase() : (await catalog.volumes.get(ref)).id;
}
