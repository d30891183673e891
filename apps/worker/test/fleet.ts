// What a test of the worker needs: a catalog, a queue, two storage nodes, and requests as the api writes
// them.
import { randomUUID } from 'node:crypto';
import {
  Catalog,
  type Difference,
  hasEnded,
  type JsonObject,
  type Run,
  type RunKind,
  type Volume,
} from '@tidemark/catalog';
import { createTestDatabase, type TestDatabase } from '@tidemark/catalog/testing';
import { pino } from 'pino';
import { WORKER_LIMITS, type WorkerLimits } from '../src/limits.ts';
import { RunWorker, type WorkerOptions } from '../src/worker.ts';
import { ScriptedStorageNode } from './scripted-storage-node.ts';

export const FAST: WorkerLimits = {
  ...WORKER_LIMITS,
  leaseMs: 3_000,
  renewMs: 50,
  dispatchMs: 50,
  progressMs: 10,
  failuresMax: 3,
  patientFailuresMax: 24,
  targetAwayMs: 1_500,
  turnMs: 50,
  retryDelayMs: 20,
  retryDelayMaxMs: 100,
  jobEndMs: 3_000,
  monitorMs: 500,
  statusTimeoutMs: 400,
  // Tests that want it turn it on.
  reconcileMs: 0,
  reconcileQuietMs: 200,
  confirmMs: 30,
  auditMs: 0,
  policyBeatMs: 50,
  policySyncMs: 100,
  policyLateMs: 500,
  policyWaitMs: 50,
};

const WAIT_MS = 25_000;
export const VOLUME_BYTES = 4096;

export class Fleet {
  readonly #exports = new Set<string>();
  readonly alpha = new ScriptedStorageNode('alpha', this.#exports);
  readonly beta = new ScriptedStorageNode('beta', this.#exports);
  readonly nodeIds = { alpha: randomUUID(), beta: randomUUID() };
  readonly database: TestDatabase;
  readonly catalog: Catalog;
  readonly queueUrl: string;
  readonly #workers = new Set<RunWorker>();

  private constructor(database: TestDatabase, queueUrl: string | undefined) {
    this.database = database;
    this.catalog = Catalog.connect(database.url, { connectionsMax: 4 });
    this.queueUrl = queueUrl ?? database.url;
  }

  /** Without `queueUrl` the queue is in the catalog's database. */
  static async open(queueUrl?: string): Promise<Fleet> {
    const fleet = new Fleet(await createTestDatabase(), queueUrl);
    await Promise.all([fleet.alpha.start(), fleet.beta.start()]);
    return fleet;
  }

  async close(): Promise<void> {
    await this.stopWorkers();
    await this.catalog.close();
    this.alpha.stop();
    this.beta.stop();
    await this.database.drop();
  }

  async startWorker(
    limits: Partial<WorkerLimits> = {},
    options: Partial<Pick<WorkerOptions, 'reportOnly' | 'metrics' | 'now' | 'concurrency'>> = {},
  ): Promise<RunWorker> {
    const worker = new RunWorker({
      databaseUrl: this.database.url,
      queueUrl: this.queueUrl,
      concurrency: 4,
      owner: `test-${randomUUID()}`,
      log: pino({ level: 'silent' }),
      limits: { ...FAST, ...limits },
      ...options,
    });
    this.#workers.add(worker);
    await worker.start();
    return worker;
  }

  async stopWorkers(): Promise<void> {
    await Promise.all([...this.#workers].map(worker => this.stopWorker(worker)));
  }

  async stopWorker(worker: RunWorker): Promise<void> {
    this.#workers.delete(worker);
    await worker.close();
  }

  register(node: 'alpha' | 'beta'): Promise<Run> {
    const storageNodeId = this.nodeIds[node];
    const wanted = { name: node, controlAddress: this[node].address };
    return this.catalog.transaction(async catalog => {
      await catalog.storageNodes.create({ id: storageNodeId, ...wanted });
      const request = { storageNodeId, ...wanted };
      return catalog.runs.create({ id: randomUUID(), kind: 'register-storage-node', storageNodeId, request });
    });
  }

  createVolume(name: string, node: 'alpha' | 'beta' = 'alpha'): Promise<Run> {
    const wanted = {
      name,
      storageNodeId: this.nodeIds[node],
      sizeBytes: VOLUME_BYTES,
      format: 'raw' as const,
    };
    return this.catalog.transaction(async catalog => {
      const { id: volumeId } = await catalog.volumes.create({ id: randomUUID(), ...wanted });
      const request = { volumeId, ...wanted };
      return catalog.runs.create({ id: randomUUID(), kind: 'create-volume', volumeId, request });
    });
  }

  createRepository(name: string): Promise<Run> {
    const wanted = { name, storageNodeId: this.nodeIds.beta, limitBytes: null };
    return this.catalog.transaction(async catalog => {
      const { id: repositoryId } = await catalog.repositories.create({ id: randomUUID(), ...wanted });
      const request = { repositoryId, ...wanted };
      return catalog.runs.create({ id: randomUUID(), kind: 'create-repository', repositoryId, request });
    });
  }

  /** Registered storage nodes, volume `disk` on alpha, repository `vault` on beta. Needs a worker. */
  async furnish(): Promise<void> {
    const joined = await Promise.all([this.register('alpha'), this.register('beta')]);
    await Promise.all(joined.map(run => this.succeed(run)));
    const made = await Promise.all([this.createVolume('disk'), this.createRepository('vault')]);
    await Promise.all(made.map(run => this.succeed(run)));
  }

  backup(
    checkpoint: string,
    kind: 'full' | 'incremental' = 'full',
    dropCheckpointIds: string[] = [],
  ): Promise<Run> {
    return this.catalog.transaction(async catalog => {
      const volume = await catalog.volumes.getReady('disk');
      const { id: repositoryId } = await catalog.repositories.getReady('vault');
      const parent = kind === 'full' ? null : await catalog.backups.findBase(volume.id, repositoryId);
      const reason = parent ? `incremental: since checkpoint '${parent.checkpoint}'` : 'full: asked for';
      const ids = { volumeId: volume.id, repositoryId, backupId: randomUUID(), checkpointId: randomUUID() };
      await catalog.checkpoints.create({ id: ids.checkpointId, volumeId: volume.id, name: checkpoint });
      await catalog.backups.create({
        id: ids.backupId,
        repositoryId,
        volumeId: volume.id,
        volumeName: volume.name,
        checkpointId: ids.checkpointId,
        checkpoint,
        parentId: parent?.id ?? null,
        reason,
        sizeBytes: volume.sizeBytes,
      });
      const base = { baseCheckpointId: parent?.checkpointId ?? null, parentBackupId: parent?.id ?? null };
      const request = { ...ids, checkpoint, dropCheckpointIds, kind, ...base, speedBytesPerSecond: null };
      return catalog.runs.create({ id: randomUUID(), kind: 'backup', ...ids, reason, request });
    });
  }

  /** As the api does. */
  restore(
    backup: { backupId: string; repositoryId: string },
    to: { volume: string } | { instant: string } | { file: string } | { inPlace: Volume },
    onDamage: 'skip' | 'fail' = 'skip',
  ) {
    const storageNodeId = this.nodeIds.alpha;
    const { backupId, repositoryId } = backup;
    const source = { backupId, repositoryId, sizeBytes: VOLUME_BYTES, onDamage };
    const runId = randomUUID();
    return this.catalog.transaction(async catalog => {
      const create = (request: JsonObject, volumeId: string | null = null) =>
        catalog.runs.create({ id: runId, kind: 'restore', backupId, repositoryId, volumeId, request });
      await catalog.backupLeases.take(backupId, 'run', runId);
      if ('file' in to) return create({ ...source, target: { file: { name: to.file, storageNodeId } } });
      if ('inPlace' in to) {
        const { id: volumeId, name } = to.inPlace;
        const inPlace = { volumeId, name, storageNodeId, evenIfConnected: false, checkpointId: null };
        return create({ ...source, target: { inPlace } }, volumeId);
      }
      const isInstant = 'instant' in to;
      const name = isInstant ? to.instant : to.volume;
      const wanted = { name, storageNodeId, format: isInstant ? ('qcow2' as const) : ('raw' as const) };
      const [volumeId, checkpointId] = [randomUUID(), randomUUID()];
      const first = { id: checkpointId, volumeId, name: 'monday', originBackupId: backupId };
      const reads = isInstant && { sourceBackupId: backupId };
      await catalog.volumes.create({ id: volumeId, ...wanted, sizeBytes: VOLUME_BYTES, ...reads });
      await catalog.checkpoints.create(first);
      if (isInstant) await catalog.backupLeases.take(backupId, 'volume', volumeId);
      const target = { [isInstant ? 'instant' : 'volume']: { volumeId, ...wanted } };
      return create({ ...source, checkpoint: { checkpointId, name: 'monday' }, target }, volumeId);
    });
  }

  /** As the api does when these backups, named by their checkpoints, are to go. */
  prune(...checkpoints: string[]): Promise<Run> {
    return this.catalog.transaction(async catalog => {
      const { id: repositoryId } = await catalog.repositories.get('vault');
      const rows = await catalog.retention.lockBackups(repositoryId);
      const going = rows.filter(({ checkpoint }) => checkpoints.includes(checkpoint));
      const backupIds = going.map(({ id }) => id);
      const volumeIds = [...new Set(going.map(({ volumeId }) => volumeId))];
      const runId = randomUUID();
      await catalog.retention.hide(backupIds, runId);
      const request = { repositoryId, backupIds, volumeIds, speedBytesPerSecond: null };
      return catalog.runs.create({ id: runId, kind: 'prune', repositoryId, request });
    });
  }

  snapshot(name: string): Promise<Run> {
    const snapshotId = randomUUID();
    return this.ask('create-snapshot', { snapshotId, name }, async (runId, { id: volumeId }) => {
      await this.catalog.snapshots.create({ id: snapshotId, volumeId, name }, runId);
    });
  }

  /** Without a top: of what the guest writes to. */
  commit({ topSnapshotId, baseSnapshotId }: { topSnapshotId?: string; baseSnapshotId?: string } = {}) {
    const commitId = randomUUID();
    const facts = { shallow: false, active: topSnapshotId === undefined, deleteFiles: true };
    const ends = { topSnapshotId: topSnapshotId ?? null, baseSnapshotId: baseSnapshotId ?? null };
    const names = { topSnapshot: topSnapshotId ? 'top' : null, baseSnapshot: baseSnapshotId ? 'base' : null };
    const request = { commitId, ...ends, ...facts, speedBytesPerSecond: null };
    return this.ask('commit', request, async (runId, { id: volumeId }) => {
      await this.catalog.commits.create({ id: commitId, volumeId, runId, ...ends, ...names, ...facts });
    });
  }

  async audit(sampleBytes = 0): Promise<Run> {
    return this.ask('audit', { repositoryId: null, sampleBytes });
  }

  /** Compares a storage node with the catalog, as an operator asks for it. */
  async reconcile(node: 'alpha' | 'beta'): Promise<Run> {
    const storageNodeId = this.nodeIds[node];
    const request = { storageNodeId, cause: 'asked', startedAtMs: null };
    return this.catalog.runs.create({ id: randomUUID(), kind: 'reconcile', storageNodeId, request });
  }

  async repair({ id, storageNodeId }: Difference, action: string): Promise<Run> {
    const request = { differenceId: id, storageNodeId, action };
    return this.catalog.runs.create({ id: randomUUID(), kind: 'repair-difference', storageNodeId, request });
  }

  /** `kind state` of each, in the order in which they were seen first. */
  async differences(): Promise<string[]> {
    const { items } = await this.catalog.differences.list();
    return items.map(({ kind, state }) => `${kind} ${state}`).sort();
  }

  /** Any other run about the volume `disk`. */
  async ask(kind: RunKind, request: JsonObject, prepare?: (runId: string, volume: Volume) => Promise<void>) {
    const id = randomUUID();
    const volume = await this.catalog.volumes.get('disk');
    await prepare?.(id, volume);
    const all = { volumeId: volume.id, storageNodeId: volume.storageNodeId, name: volume.name, ...request };
    return this.catalog.runs.create({ id, kind, volumeId: volume.id, request: all });
  }

  async end(run: Run): Promise<Run> {
    return this.until(run, hasEnded);
  }

  async succeed(run: Run): Promise<Run> {
    const ended = await this.end(run);
    if (ended.state !== 'succeeded')
      throw new Error(`${run.kind} ${ended.state}: ${JSON.stringify(ended.error)}`);
    return ended;
  }

  /** The run, once it is as wanted. */
  until(run: Run, wanted: (run: Run) => boolean): Promise<Run> {
    return poll(`run ${run.kind}`, async () => {
      const current = await this.catalog.runs.get(run.id);
      return wanted(current) ? current : undefined;
    });
  }

  /** Nothing half-made is anywhere, and no job is left; `backups` finished ones are. */
  async leftovers() {
    const { alpha, beta, catalog } = this;
    const volumes = (await catalog.volumes.list()).items;
    const disk = volumes.find(volume => volume.name === 'disk');
    return {
      partial: [...alpha.partial.keys(), ...beta.partial.keys()],
      openBackups: [...alpha.openBackups, ...beta.openBackups],
      jobs: [...alpha.jobs.keys(), ...beta.jobs.keys()],
      checkpoints: [...alpha.checkpoints.values()].map(checkpoint => checkpoint.name),
      checkpointRows: disk ? (await catalog.checkpoints.list(disk.id)).items.map(row => row.name) : [],
      backupRows: (await catalog.backups.list()).items.map(row => row.checkpoint),
      volumes: [...alpha.volumes.values()].map(volume => volume.name),
      volumeRows: volumes.map(volume => volume.name),
    };
  }
}

/** The first defined answer of `look`; rejects after 15 s, unless told otherwise. */
export async function poll<T>(
  what: string,
  look: () => Promise<T | undefined>,
  waitMs: number = WAIT_MS,
): Promise<T> {
  const until = performance.now() + waitMs;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > until) throw new Error(`waited too long for ${what}`);
    await new Promise(resolve => setTimeout(resolve, 15));
  }
}
