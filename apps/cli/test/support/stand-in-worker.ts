// Does to the catalog what a worker does, without storage nodes behind it: the command sees runs move.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Catalog, JsonObject, Run, RunError } from '@tidemark/catalog';

const LOOK_EVERY_MS = 20;

type Lease = NonNullable<Awaited<ReturnType<Catalog['leases']['claim']>>>['lease'];

export class StandInWorker {
  readonly #catalog: Catalog;
  #loop: Promise<void> = Promise.resolve();
  #stopped = false;
  #failure: RunError | null = null;
  #damage: JsonObject | null = null;
  #groupEnd: JsonObject | null = null;

  constructor(catalog: Catalog) {
    this.#catalog = catalog;
  }

  start(): void {
    this.#stopped = false;
    this.#loop = this.#work();
  }

  /** Afterwards no run is taken; one that was being worked on has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#loop;
  }

  failNext(error: RunError): void {
    this.#failure = error;
  }

  damageNext(damage: JsonObject): void {
    this.#damage = damage;
  }

  /** The result of the next group. */
  endNextGroup(result: JsonObject): void {
    this.#groupEnd = result;
  }

  async #work(): Promise<void> {
    while (!this.#stopped) {
      const waiting = await this.#catalog.runs.listDispatchable(1);
      for (const { id, attempt } of waiting) {
        const claimed = await this.#catalog.leases.claim(id, { owner: 'stand-in', leaseMs: 60_000, attempt });
        if (claimed) await this.#do(claimed.run, claimed.lease);
      }
      await sleep(LOOK_EVERY_MS);
    }
  }

  async #do(run: Run, lease: Lease): Promise<void> {
    const { leases } = this.#catalog;
    const failure = this.#failure;
    this.#failure = null;
    if (failure) {
      await leases.beginUndo(lease, failure);
      if (run.volumeId) await this.#catalog.volumes.delete(run.volumeId, run.id);
      return leases.finish(lease, { state: 'failed', error: failure });
    }
    if (run.cancelRequested) return leases.finish(lease, { state: 'cancelled' });
    await leases.startStep(lease, 'work');
    await leases.update(lease, { progress: { currentBytes: 512, totalBytes: 1024 } });
    // Long enough for the command to see the run on its way.
    await sleep(100);
    const result = await this.#conclude(run);
    await leases.finishStep(lease, 'work', {});
    return leases.finish(lease, { state: 'succeeded', result });
  }

  async #conclude(run: Run): Promise<JsonObject> {
    const catalog = this.#catalog;
    const now = new Date();
    const sizeBytes = Number(run.request.sizeBytes);
    const exportUri = 'nbd://127.0.0.1:10809/export';
    if (run.kind === 'register-storage-node') {
      const { name } = await catalog.storageNodes.get(run.storageNodeId!);
      const sizes = { capacityBytes: 1_000_000, availableBytes: 500_000 };
      const report = {
        instanceId: run.storageNodeId!,
        nbdAddress: `${name}.example:10809`,
        version: '0.1.0',
      };
      await catalog.storageNodes.markOnline(run.storageNodeId!, { ...report, ...sizes });
    }
    if (run.kind === 'create-volume')
      await catalog.volumes.markReady(run.volumeId!, { exportUri, sizeBytes }, run.id);
    if (run.kind === 'delete-volume') await catalog.volumes.delete(run.volumeId!, run.id);
    if (run.kind === 'create-repository') await catalog.repositories.markReady(run.repositoryId!, run.id);
    if (run.kind === 'create-checkpoint') await catalog.checkpoints.markReady(run.checkpointId!, now, run.id);
    if (run.kind === 'delete-checkpoint') await catalog.checkpoints.delete(run.checkpointId!, run.id);
    if (run.kind === 'create-snapshot')
      await catalog.snapshots.markReady(String(run.request.snapshotId), now, run.id);
    if (run.kind === 'commit') await this.#commit(run);
    if (run.kind === 'finish-commit')
      await catalog.commits.end(String(run.request.commitId), { state: 'done' }, run.id);
    if (run.kind === 'backup') {
      await catalog.checkpoints.markReady(run.checkpointId!, now, run.id);
      await catalog.backups.markStarted(run.backupId!, { pointInTime: now, dirtyBytes: 4096 });
      const facts = { storedBytes: 65_536, sentBytes: 4096, fileName: 'disk.qcow2' };
      await catalog.backups.markAvailable(run.backupId!, facts, run.id);
    }
    if (run.kind === 'replicate') {
      for (const { backupId } of run.request.members as { backupId: string }[]) {
        await catalog.backups.markStarted(backupId, { pointInTime: now, dirtyBytes: 0 });
        const facts = { storedBytes: 65_536, sentBytes: 4096, fileName: 'disk.qcow2' };
        await catalog.backups.markAvailable(backupId, facts, run.id);
      }
    }
    if (run.kind === 'prune') {
      for (const id of run.request.backupIds as string[]) await catalog.retention.finish(id, [], run.id);
    }
    if (run.kind === 'create-group') return this.#makeGroup(run);
    if (run.kind === 'delete-group') await catalog.groups.delete(String(run.request.groupId), run.id);
    if (run.kind !== 'restore') return {};
    const damage = this.#damage;
    this.#damage = null;
    if (run.volumeId) await catalog.volumes.markReady(run.volumeId, { exportUri, sizeBytes }, run.id);
    return { damage, ...(run.volumeId ? {} : { filePath: '/restores/disk.raw' }) };
  }

  async #commit({ id: runId, request }: Run): Promise<void> {
    const { commits } = this.#catalog;
    const commitId = String(request.commitId);
    await commits.dropLostSnapshots(commitId, request.active ? [] : [String(request.topSnapshotId)], runId);
    await commits.markCopying(commitId, runId);
    if (request.active) await commits.markReady(commitId, runId);
    else await commits.end(commitId, { state: 'done' }, runId);
  }

  async #makeGroup({ request, id: runId }: Run): Promise<JsonObject> {
    const id = String(request.groupId);
    const storageNode = (await this.#catalog.storageNodes.list()).items[0]!;
    const answers = {
      fencedMs: 1,
      committedMs: 2,
      releasedMs: 3,
      fencedAtMs: 1,
      drainedInMs: 0,
      committedInMs: 1,
    };
    const waits = { held: true, heldMs: 2.5, waits: 1, waitP99Ms: 3.5, waitMaxMs: 3.5 };
    const place = { storageNodeId: storageNode.id, storageNode: storageNode.name, volumes: [], fenceId: 'f' };
    const sent = { fenceSentMs: 0, commitSentMs: 1, releaseSentMs: 2 };
    const proof = {
      ...{
        runId,
        fenceLimitMs: 500,
        longestWaitMs: 3.5,
        hooks: [],
        nodes: [{ ...place, ...answers, ...waits }],
      },
      coordinator: { ...sent, allFencedMs: 1, allCommittedMs: 2, allReleasedMs: 3 },
    };
    const pointInTime = new Date();
    await this.#catalog.groups.decide(id, { pointInTime, proof });
    for (const { checkpointId } of request.members as { checkpointId: string }[]) {
      await this.#catalog.checkpoints.markReady(checkpointId, pointInTime, runId);
    }
    await this.#catalog.groups.end(id, { state: 'ready' });
    const result = this.#groupEnd ?? { state: 'ready', failed: [], notThawed: [] };
    this.#groupEnd = null;
    return result;
  }
}
