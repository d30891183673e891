// One repository: the backups in its folder, those being written, those being read, and its limit.
import { TidemarkError } from '@tidemark/proto';
import type { NbdExports } from '../exports/nbd-exports.ts';
import { checkId } from '../host/plain-id.ts';
import type { StateStore } from '../host/state-store.ts';
import { Turns } from '../host/turns.ts';
import { BACKUPS_OPEN_MAX } from '../limits.ts';
import { checkKind, checkParent, checkSize } from '../moment/backup-plan.ts';
import { ChainGate } from './chain-gate.ts';
import { type Manifest, type RepositoryRecord, titleOf } from './manifest.ts';
import { type BackupEndpoint, OpenBackups, type OpenRequest } from './open-backups.ts';
import {
  type BackupHost,
  type BackupRequest,
  PartialBackup,
  type PartialBackupPlan,
} from './partial-backup.ts';
import {
  notBeingWritten,
  type Pace,
  type Publication,
  sumsOfManifest,
  verifyPartial,
  type WholeCopy,
} from './publication.ts';
import { finishRemovals } from './removal-intent.ts';
import { RepositoryLayout } from './repository-layout.ts';
import { type Removal, RepositoryRemovals } from './repository-removal.ts';
import { type RepositoryProblem, scanBackups } from './repository-scan.ts';
import { availableBytes } from './repository-space.ts';
import { checkEmpty, type RepositorySummary, type RepositoryWork } from './repository-summary.ts';
import { SpaceBudget } from './space-budget.ts';
import type { SharedSpace } from './space-reservation.ts';

export class Repository {
  readonly record: RepositoryRecord;
  readonly #host: BackupHost;
  readonly #now: () => number;
  readonly #manifests: Map<string, Manifest>;
  readonly #partials = new Map<string, PartialBackup>();
  readonly #open: OpenBackups;
  readonly #turns = new Turns();
  /** Reading a large image back takes long: whoever stops the process does not wait for that. */
  readonly #stop = new AbortController();
  /** Backups whose files are being made, from before the first one is, with their parents. */
  readonly #writing = new Map<string, string>();
  /** Being verified, with those that they stand on. */
  readonly #held = new Set<readonly string[]>();
  /** For whoever opens several files of a chain. */
  readonly #gate = new ChainGate();
  readonly #removals: RepositoryRemovals;

  private constructor(
    record: RepositoryRecord,
    options: { host: BackupHost; now: () => number; manifests: Map<string, Manifest> },
  ) {
    this.record = record;
    this.#host = options.host;
    this.#now = options.now;
    this.#manifests = options.manifests;
    this.#open = new OpenBackups(options.host);
    this.#removals = new RepositoryRemovals({
      ...options.host,
      manifests: options.manifests,
      gate: this.#gate,
      userOf: backupId => this.#userOf(backupId),
    });
  }

  /** Reads the folder; what an earlier life of the process left unfinished is removed. */
  static async load(
    record: RepositoryRecord,
    options: {
      store: StateStore;
      exports: NbdExports;
      shared: SharedSpace;
      now: () => number;
      report: (problem: RepositoryProblem) => void;
    },
  ): Promise<Repository> {
    const { store, exports, shared, now, report } = options;
    const layout = new RepositoryLayout(record.repositoryId);
    const budget = new SpaceBudget(record.limitBytes === 0 ? Number.POSITIVE_INFINITY : record.limitBytes);
    const unclear = await finishRemovals({ store, layout }, problem =>
      report({ repository: layout.folder, what: 'manifest-damaged', ...problem }),
    );
    const { manifests, usedBytes } = await scanBackups({
      store,
      layout,
      report,
      isBeingWritten: () => false,
      removesUnpublished: true,
    });
    budget.take(usedBytes);
    const host = { store, exports, layout, budget, shared, title: titleOf(record) };
    const repository = new Repository(record, { host, now, manifests });
    for (const backupId of unclear) repository.#removals.leaveAlone(backupId);
    await repository.#open.load(
      backupId => repository.chainOf(backupId),
      message => report({ repository: layout.folder, what: 'export-lost', message }),
    );
    return repository;
  }

  /** Drops all exports. Backups that are being written are removed, as they would be after a crash. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#turns.idle();
    await this.#open.closeAll();
    for (const partial of this.#partials.values()) await partial.discard();
    this.#partials.clear();
  }

  /** Rejects with `io-error` where its folder is away. */
  async summary(): Promise<RepositorySummary> {
    return this.summaryWith(await availableBytes(this.#host));
  }

  summaryWith(bytes: number): RepositorySummary {
    const { version: _, createdAtMs: __, ...shown } = this.record;
    return { ...shown, usedBytes: this.#host.budget.usedBytes, availableBytes: bytes };
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
    throw new TidemarkError('backup-not-found', `Backup ${backupId} of ${this.#host.title} ${state}.`);
  }

  /**
   * The backup and all that it stands on, newest first, as far as manifests are there: with a damaged one missing, what
   * stands on it can still be read. Throws `backup-not-found`.
   */
  chainOf(backupId: string): Manifest[] {
    const chain = [this.get(backupId)];
    for (;;) {
      const parent = this.#manifests.get(chain.at(-1)!.parentBackupId);
      if (parent === undefined) return chain;
      chain.push(parent);
    }
  }

  /**
   * Keeps backups from being taken out of their chains. Returns the function that lets go of them. Throws
   * `backup-in-use` while one of them is.
   */
  hold(backupIds: readonly string[]): () => void {
    const leaving = backupIds.find(backupId => this.#removals.isUnderWay(backupId));
    if (leaving !== undefined) {
      const text = `Backup ${leaving} of ${this.#host.title} is being merged. Wait for the prune run that does it.`;
      throw new TidemarkError('backup-in-use', text);
    }
    const held = [...backupIds];
    this.#held.add(held);
    return () => this.#held.delete(held);
  }

  /** Where a backup's files lie, for those who read them themselves while they `hold` it. */
  filesOf(backupId: string): { image: string; sums: string } {
    const { store, layout } = this.#host;
    return { image: store.path(layout.image(backupId)), sums: store.path(layout.sums(backupId)) };
  }

  /** Reads the folder anew: what was put there is found, what is gone is no longer listed. */
  async scan(): Promise<{ backups: Manifest[]; problems: RepositoryProblem[] }> {
    const scanned = await this.#scanFolder();
    const { folder: repository } = this.#host.layout;
    const report = (message: string) => scanned.problems.push({ repository, what: 'export-lost', message });
    for (const waiting of this.#open.waiting) {
      await this.#turns.take(waiting.backupId, () =>
        this.#gate.together(() => this.#open.reopen(waiting, backupId => this.chainOf(backupId), report)),
      );
    }
    return scanned;
  }

  #scanFolder(): Promise<{ backups: Manifest[]; problems: RepositoryProblem[] }> {
    return this.#turns.take('scan', () =>
      this.#gate.together(async () => {
        const { store, layout } = this.#host;
        const problems: RepositoryProblem[] = [];
        const before = new Set(this.#manifests.keys());
        const { manifests } = await scanBackups({
          store,
          layout,
          report: problem => problems.push(problem),
          isBeingWritten: backupId => this.#writing.has(backupId),
          removesUnpublished: false,
        });
        for (const [backupId, manifest] of manifests) {
          // What is being published counts itself.
          if (before.has(backupId) || this.#manifests.has(backupId) || this.#writing.has(backupId)) continue;
          this.#manifests.set(backupId, manifest);
          this.#host.budget.take(manifest.storedBytes);
        }
        for (const backupId of before) {
          const manifest = this.#manifests.get(backupId);
          if (manifest === undefined || manifests.has(backupId)) continue;
          this.#manifests.delete(backupId);
          this.#host.budget.giveBack(manifest.storedBytes);
        }
        return { backups: this.list(), problems };
      }),
    );
  }

  /** Throws `repository-in-use` while there is anything that somebody may want back or is at work on. */
  async assertEmpty(): Promise<void> {
    const { store, layout, title } = this.#host;
    const fileNames = await store.list(layout.backups);
    const isIdle = this.#writing.size === 0 && this.#open.list().length === 0;
    checkEmpty({ title, backups: this.#manifests.size, fileNames, isIdle });
  }

  /** What lies here besides published backups that nobody reads. */
  work(): RepositoryWork {
    return {
      partials: [...this.#partials.values()].map(({ plan, sinceMs }) => ({
        backupId: plan.backupId,
        sinceMs,
      })),
      open: this.#open.list(),
      leavingBackupIds: [...this.#manifests.values()].filter(({ hidden }) => hidden).map(one => one.backupId),
    };
  }

  /** Makes the partial files and their writable exports. Good to repeat while the backup is being written. */
  prepare(request: BackupRequest): Promise<BackupEndpoint> {
    checkId(request.backupId, 'backup');
    checkId(request.volumeId, 'volume');
    checkSize(request);
    const plan = { ...request, compression: request.compression ?? this.record.compression };
    return this.#turns.take(plan.backupId, async () => {
      if (this.#manifests.has(plan.backupId)) {
        throw this.#notUsable(plan.backupId, 'is published already; start a new backup');
      }
      const known = this.#partials.get(plan.backupId);
      if (known !== undefined) return this.#endpointAgain(known, plan);
      if (this.#partials.size >= BACKUPS_OPEN_MAX) {
        throw this.#notUsable(
          plan.backupId,
          `has to wait: ${this.#partials.size} others are being written; try again later`,
        );
      }
      if (plan.parentBackupId !== '') {
        const [manifests, { title }] = [this.#manifests, this.#host];
        checkParent(plan, { parent: this.get(plan.parentBackupId), manifests, title });
      }
      this.#writing.set(plan.backupId, plan.parentBackupId);
      try {
        const sinceMs = this.#now();
        const partial = await this.#gate.together(() => PartialBackup.create(this.#host, plan, { sinceMs }));
        this.#partials.set(plan.backupId, partial);
        return partial.endpoint;
      } catch (error) {
        this.#writing.delete(plan.backupId);
        throw error;
      }
    });
  }

  /** Ends the writing and looks at what was copied, as `publish` does otherwise; rejects as that and `pace` do. */
  check(copy: WholeCopy, pace: Pace): Promise<void> {
    return this.#turns.take(copy.backupId, async () => {
      if (!this.#manifests.has(copy.backupId)) await this.#seal(this.#writtenTo(copy), pace);
    });
  }

  /** Throws `backup-not-found` where the backup is neither published nor being written to that target. */
  sizeOfPartial(copy: WholeCopy): number {
    return (this.#manifests.get(copy.backupId) ?? this.#writtenTo(copy).plan).sizeBytes;
  }

  /** What is written by `work` can neither be published nor discarded meanwhile. Rejects as `sizeOfPartial` throws. */
  writing<T>(copy: WholeCopy, work: (partial: PartialBackup) => Promise<T>): Promise<T> {
    return this.#turns.take(copy.backupId, () => work(this.#writtenTo(copy)));
  }

  #writtenTo({ backupId, targetUri = '' }: WholeCopy): PartialBackup {
    const partial = this.#partials.get(backupId);
    if (partial === undefined) throw notBeingWritten(backupId, this.#host.title);
    partial.checkTarget(targetUri);
    return partial;
  }

  #seal(partial: PartialBackup, pace: Pace): Promise<void> {
    const { plan } = partial;
    const { signal } = this.#stop;
    return partial.seal(paths => verifyPartial(paths, { plan, hasSums: partial.hasSums, pace, signal }));
  }

  /**
   * Afterwards the backup is durable and listed. Good to repeat, also after it was published. Rejects with
   * `image-invalid` where the files are not what was sent: nothing is listed then, and `discard` is left; and with
   * `backup-not-found` where the whole copy went to another target than the present one, which is left as it is.
   */
  publish({ targetUri = '', ...publication }: Publication): Promise<Manifest> {
    const { backupId } = publication;
    checkId(publication.checkpointId, 'checkpoint');
    return this.#turns.take(backupId, async () => {
      const published = this.#manifests.get(backupId);
      if (published !== undefined) return published;
      const partial = this.#writtenTo({ backupId, targetUri });
      const { plan } = partial;
      checkKind(publication, plan);
      if (publication.replicaOfBackupId !== undefined && !partial.isWhole) {
        throw this.#notUsable(backupId, 'is a replica of which not all has come; copy the rest first');
      }
      await this.#seal(partial, async () => {});
      const storedBytes = await partial.name();
      const { expectedBytes: _, ...kept } = plan;
      const manifest: Manifest = {
        version: 2,
        ...kept,
        ...publication,
        storedBytes,
        createdAtMs: this.#now(),
        hidden: false,
        sums: partial.hasSums ? await sumsOfManifest(partial.paths.sums) : null,
      };
      await this.#host.store.write(this.#host.layout.manifest(backupId), manifest);
      partial.settle(storedBytes);
      this.#partials.delete(backupId);
      this.#manifests.set(backupId, manifest);
      this.#writing.delete(backupId);
      return manifest;
    });
  }

  /** Removes what `prepare` made. Good to repeat; refuses a published backup. */
  discard(backupId: string): Promise<void> {
    checkId(backupId, 'backup');
    return this.#turns.take(backupId, async () => {
      if (this.#manifests.has(backupId)) {
        throw this.#notUsable(
          backupId,
          'is published and can no longer be discarded. Delete it if nobody needs it',
        );
      }
      const partial = this.#partials.get(backupId);
      if (partial === undefined) return;
      await partial.discard();
      this.#partials.delete(backupId);
      this.#writing.delete(backupId);
    });
  }

  /** Read-only exports for one run. Good to repeat. Throws `backup-not-usable` for one that is on its way out. */
  open(request: OpenRequest): Promise<BackupEndpoint> {
    return this.#turns.take(request.backupId, () =>
      this.#gate.together(async () => {
        const { backupId, hidden } = this.get(request.backupId);
        if (hidden) throw this.#notUsable(backupId, 'is being taken out of its chain; use another backup');
        return this.#open.open(request, this.chainOf(backupId));
      }),
    );
  }

  closeBackup(options: { backupId: string; runId: string }): Promise<void> {
    return this.#turns.take(options.backupId, () => this.#open.close(options));
  }

  /**
   * A removal of the backup begins: it is hidden, durably. Rejects with `backup-in-use`, with the backup hidden where
   * only its children are in the way.
   */
  beginRemoval(backupId: string): Promise<Removal> {
    return this.#turns.take(backupId, () => this.#removals.begin(backupId));
  }

  #userOf(backupId: string): string | undefined {
    if (this.#open.isOpen(backupId)) return 'a run that reads it';
    if ([...this.#held].some(held => held.includes(backupId))) return 'a verification';
    const child = [...this.#writing].find(([, parentId]) => parentId === backupId);
    return child && `backup ${child[0]}, which is being written over it`;
  }

  #endpointAgain(partial: PartialBackup, plan: PartialBackupPlan): BackupEndpoint {
    if (partial.matches(plan) && (partial.isWritable || partial.isWhole)) return partial.endpoint;
    throw this.#notUsable(plan.backupId, 'is being written with other settings; discard it first');
  }

  #notUsable(backupId: string, state: string): TidemarkError {
    return new TidemarkError('backup-not-usable', `Backup ${backupId} of ${this.#host.title} ${state}.`);
  }
}
