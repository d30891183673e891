// Snapshots of a volume: intents to take them, and what there is. They go by commits.
import { randomUUID } from 'node:crypto';
import type { Catalog, CatalogTransaction, Snapshot, Volume } from '@tidemark/catalog';
import { type RunRequest, TidemarkError } from '@tidemark/proto';
import { iso, isoOrNull } from '../moments.ts';
import type { StartedRun } from '../runs/run-json.ts';
import type { RunStarter } from '../runs/run-starter.ts';
import type { PageQuery } from '../schemas/common.ts';
import type { CreateSnapshot, SnapshotJson } from '../schemas/snapshot.ts';
import { requireOnline } from '../storage-nodes/storage-node-service.ts';

function toSnapshotJson(snapshot: Snapshot): SnapshotJson {
  return {
    id: snapshot.id,
    name: snapshot.name,
    volumeId: snapshot.volumeId,
    state: snapshot.state,
    pointInTime: isoOrNull(snapshot.pointInTime),
    createdAt: iso(snapshot.createdAt),
  };
}

async function requireFreeName(catalog: CatalogTransaction, volume: Volume, name: string): Promise<void> {
  const taken = await catalog.snapshots.find(volume.id, name);
  if (!taken) return;
  throw new TidemarkError(
    'snapshot-name-taken',
    `Volume '${volume.name}' has a snapshot '${name}' already, which is ${taken.state}. ` +
      'Choose another name, or commit that one first.',
  );
}

export async function findSnapshot(
  catalog: CatalogTransaction,
  volume: Volume,
  ref: string,
): Promise<Snapshot> {
  const snapshot = await catalog.snapshots.find(volume.id, ref);
  if (snapshot) return snapshot;
  throw new TidemarkError(
    'snapshot-not-found',
    `Volume '${volume.name}' has no snapshot '${ref}'. ` +
      `List them with GET /v1/volumes/${volume.name}/snapshots.`,
  );
}

export class SnapshotService {
  readonly #catalog: Catalog;
  readonly #runs: RunStarter;

  constructor(catalog: Catalog, runs: RunStarter) {
    this.#catalog = catalog;
    this.#runs = runs;
  }

  create(volumeRef: string, { name }: CreateSnapshot): Promise<StartedRun<{ snapshot: SnapshotJson }>> {
    return this.#runs.start(async (catalog, runId) => {
      const volume = await catalog.volumes.getReady(volumeRef);
      requireOnline(await catalog.storageNodes.get(volume.storageNodeId));
      await requireFreeName(catalog, volume, name);
      const wanted = { id: randomUUID(), volumeId: volume.id, name };
      const snapshot = await catalog.snapshots.create(wanted, runId);
      const run = await catalog.runs.create({
        id: runId,
        kind: 'create-snapshot',
        storageNodeId: volume.storageNodeId,
        volumeId: volume.id,
        request: {
          volumeId: volume.id,
          snapshotId: snapshot.id,
          name,
        } satisfies RunRequest<'create-snapshot'>,
      });
      return { run, snapshot: toSnapshotJson(snapshot) };
    });
  }

  async list(volumeRef: string, page: PageQuery) {
    const volume = await this.#catalog.volumes.get(volumeRef);
    const { items, nextCursor } = await this.#catalog.snapshots.list(volume.id, page);
    return { items: items.map(toSnapshotJson), nextCursor };
  }

  async get(volumeRef: string, ref: string): Promise<SnapshotJson> {
    const volume = await this.#catalog.volumes.get(volumeRef);
    return toSnapshotJson(await findSnapshot(this.#catalog, volume, ref));
  }

  async find({ volumeId, id }: { volumeId: string; id: string }): Promise<SnapshotJson | null> {
    const snapshot = await this.#catalog.snapshots.find(volumeId, id);
    return snapshot && toSnapshotJson(snapshot);
  }
}
