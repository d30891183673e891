// One repository: the backups in its folder, those being written, those being read, and its limit.
import { IMAGE_BYTES_MAX, SECTOR_BYTES } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import type { NbdExports } from '../exports/nbd-exports.ts';
import { BACKUPS_OPEN_MAX, CHAIN_LENGTH_MAX } from '../limits.ts';
import { diskSpace } from './disk-space.ts';
import type { Manifest, RepositoryRecord } from './manifest.ts';
import { type BackupEndpoint, OpenBackups } from './open-backups.ts';
import { type BackupHost, PartialBackup, type PartialBackupPlan } from './partial-backup.ts';
import { checkId } from './plain-id.ts';
import { RepositoryLayout } from './repository-layout.ts';
import { type RepositoryProblem, scanBackups } from './repository-scan.ts';
import { SpaceBudget } from './space-budget.ts';
import type { StateStore } from './state-store.ts';
import { Turns } from './turns.ts';

export interface RepositorySummary {
  readonly repositoryId: string;
  readonly name: string;
  /** 0: as much as the file system has. */
  readonly limitBytes: number;
  readonly usedBytes: number;
  readonly availableBytes: number;
}

/** What only the end of the copying tells. */
export type Publication = Pick<
  Manifest,
  'backupId' | 'volumeName' | 'checkpointId' | 'checkpointName' | 'pointInTimeMs' | 'kind' | 'reason'
>;

export class Repository {
  readonly record: RepositoryRecord;
  readonly #host: BackupHost;
  readonly #now: () => number;
  readonly #manifests: Map<string, Manifest>;
  readonly #partials = new Map<string, PartialBackup>();
  readonly #open: OpenBackups;
  readonly #turns = new Turns();

  private constructor(
    record: RepositoryRecord,
    options: { host: BackupHost; now: () => number; manifests: Map<string, Manifest> },
  ) {
    this.record = record;
    this.#host = options.host;
    this.#now = options.now;
    this.#manifests = options.manifests;
    this.#open = new OpenBackups(options.host.exports);
  }

  /** Reads the folder; what an earlier life of the process left unfinished is removed. */
  static async load(
    record: RepositoryRecord,
    options: {
      store: StateStore;
      exports: NbdExports;
      now: () => number;
      report: (problem: RepositoryProblem) => void;
    },
  ): Promise<Repository> {
    const { store, exports, now, report } = options;
    const layout = new RepositoryLayout(record.repositoryId);
    const budget = new SpaceBudget(record.limitBytes === 0 ? Number.POSITIVE_INFINITY : record.limitBytes);
    const { manifests, usedBytes } = await scanBackups({ store, layout, report });
    budget.take(usedBytes);
    return new Repository(record, { host: { store, exports, layout, budget }, now, manifests });
  }

  /** Drops all exports. Backups that are being written are removed, as they would be after a crash. */
  async close(): Promise<void> {
    await this.#turns.idle();
    await this.#open.closeAll();
    for (const partial of this.#partials.values()) await partial.discard();
    this.#partials.clear();
  }

  async summary(): Promise<RepositorySummary> {
    const { budget, store, layout } = this.#host;
    const { availableBytes } = await diskSpace(store.path(layout.folder));
    return {
      repositoryId: this.record.repositoryId,
      name: this.record.name,
      limitBytes: this.record.limitBytes,
      usedBytes: budget.usedBytes,
      availableBytes: Math.min(availableBytes, budget.leftBytes),
    };
  }

  /** Published backups, oldest point in time first. */
  list(): Manifest[] {
    return [...this.#manifests.values()].sort(
      (a, b) => a.pointInTimeMs - b.pointInTimeMs || a.createdAtMs - b.createdAtMs,
    );
  }

  /** Throws `backup-not-found`. */
  get(backupId: string): Manifest {
    const manifest = this.#manifests.get(backupId);
    if (manifest !== undefined) return manifest;
    const state = this.#partials.has(backupId)
      ? 'is still being written; wait for its run to end'
      : 'is not there; list the backups to see which are';
    throw new TidemarkError('backup-not-found', `Backup ${backupId} of ${this.#title} ${state}.`);
  }

  /** Makes the partial image and its writable export. Good to repeat while it is being written. */
  prepare(plan: PartialBackupPlan): Promise<BackupEndpoint> {
    checkId(plan.backupId, 'backup');
    checkId(plan.volumeId, 'volume');
    checkSize(plan);
    return this.#turns.take(plan.backupId, async () => {
      if (this.#manifests.has(plan.backupId)) {
        throw this.#notUsable(plan.backupId, 'is published already; start a new backup');
      }
      const known = this.#partials.get(plan.backupId);
      if (known !== undefined) return this.#endpointAgain(known, plan);
      if (this.#partials.size >= BACKUPS_OPEN_MAX) {
        throw this.#notUsable(plan.backupId, `has to wait: ${this.#partials.size} others are being written`);
      }
      if (plan.parentBackupId !== '') this.#checkParent(plan);
      const partial = await PartialBackup.create(this.#host, plan);
      this.#partials.set(plan.backupId, partial);
      return { uri: partial.uri, sizeBytes: plan.sizeBytes };
    });
  }

  /** Afterwards the backup is durable and listed. Good to repeat, also after it was published. */
  publish(publication: Publication): Promise<Manifest> {
    const { backupId } = publication;
    checkId(publication.checkpointId, 'checkpoint');
    return this.#turns.take(backupId, async () => {
      const published = this.#manifests.get(backupId);
      if (published !== undefined) return published;
      const partial = this.#partials.get(backupId);
      if (partial === undefined) {
        throw new TidemarkError(
          'backup-not-found',
          `Backup ${backupId} is not being written to ${this.#title}: it was never prepared, or the ` +
            'storage node has started anew since. Run the backup again.',
        );
      }
      this.#checkKind(publication, partial.plan);
      await partial.seal();
      const storedBytes = await partial.name();
      const manifest: Manifest = {
        version: 1,
        ...partial.plan,
        ...publication,
        storedBytes,
        createdAtMs: this.#now(),
      };
      await this.#host.store.write(this.#host.layout.manifest(backupId), manifest);
      partial.settle(storedBytes);
      this.#partials.delete(backupId);
      this.#manifests.set(backupId, manifest);
      return manifest;
    });
  }

  /** Removes what `prepare` made. Good to repeat; refuses a published backup. */
  discard(backupId: string): Promise<void> {
    checkId(backupId, 'backup');
    return this.#turns.take(backupId, async () => {
      if (this.#manifests.has(backupId)) {
        throw this.#notUsable(backupId, 'is published and can no longer be discarded');
      }
      const partial = this.#partials.get(backupId);
      if (partial === undefined) return;
      await partial.discard();
      this.#partials.delete(backupId);
    });
  }

  /** A read-only export for one run. Good to repeat. */
  open(options: { backupId: string; runId: string }): Promise<BackupEndpoint> {
    return this.#turns.take(options.backupId, async () => {
      const { backupId } = this.get(options.backupId);
      const path = this.#host.store.path(this.#host.layout.image(backupId));
      return this.#open.open({ ...options, path });
    });
  }

  /** Good to repeat. */
  closeBackup(options: { backupId: string; runId: string }): Promise<void> {
    return this.#turns.take(options.backupId, () => this.#open.close(options));
  }

  #endpointAgain(partial: PartialBackup, plan: PartialBackupPlan): BackupEndpoint {
    if (partial.matches(plan) && partial.isWritable) return { uri: partial.uri, sizeBytes: plan.sizeBytes };
    throw this.#notUsable(plan.backupId, 'is being written with other settings; discard it first');
  }

  #checkParent(plan: PartialBackupPlan): void {
    const parent = this.get(plan.parentBackupId);
    if (parent.volumeId !== plan.volumeId) {
      throw this.#notUsable(parent.backupId, `is of volume ${parent.volumeId}, not of ${plan.volumeId}`);
    }
    if (parent.sizeBytes > plan.sizeBytes) {
      throw this.#notUsable(
        parent.backupId,
        `has ${parent.sizeBytes} bytes, more than the ${plan.sizeBytes} of the volume; make a full backup`,
      );
    }
    let length = 1;
    for (let link: Manifest | undefined = parent; link !== undefined; length++) {
      link = this.#manifests.get(link.parentBackupId);
    }
    if (length > CHAIN_LENGTH_MAX) {
      throw this.#notUsable(parent.backupId, `ends a chain of ${CHAIN_LENGTH_MAX}; make a full backup`);
    }
  }

  #checkKind({ backupId, kind }: Publication, plan: PartialBackupPlan): void {
    const isFull = plan.parentBackupId === '';
    if (isFull === (kind === 'full')) return;
    throw new TidemarkError(
      'invalid-request',
      `Backup ${backupId} was prepared ${isFull ? 'without a' : 'with a'} parent: it is not ${kind}.`,
    );
  }

  #notUsable(backupId: string, state: string): TidemarkError {
    return new TidemarkError('backup-not-usable', `Backup ${backupId} of ${this.#title} ${state}.`);
  }

  get #title(): string {
    return `repository '${this.record.name}'`;
  }
}

function checkSize({ sizeBytes }: PartialBackupPlan): void {
  const isValid = sizeBytes >= SECTOR_BYTES && sizeBytes % SECTOR_BYTES === 0 && sizeBytes <= IMAGE_BYTES_MAX;
  if (isValid) return;
  throw new TidemarkError(
    'invalid-volume-size',
    `A volume cannot have ${sizeBytes} bytes: give a multiple of ${SECTOR_BYTES}, at least ${SECTOR_BYTES}.`,
  );
}
