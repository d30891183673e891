// Volumes: intents to make and delete them, and what there is.
import { randomUUID } from 'node:crypto';
import {
  type Catalog,
  type CatalogTransaction,
  intendMove,
  requireOpen,
  type Volume,
} from '@tidemark/catalog';
import { type RunRequest, TidemarkError } from '@tidemark/proto';
import { idOf } from '../filters.ts';
import { iso, isoOrNull } from '../moments.ts';
import type { StartedRun } from '../runs/run-json.ts';
import type { RunStarter } from '../runs/run-starter.ts';
import { chosenPage, type PlacedPageQuery } from '../schemas/common.ts';
import type { CreateVolume, MoveVolume, UpdateVolume, VolumeJson } from '../schemas/volume.ts';
import { requireOnline } from '../storage-nodes/storage-node-service.ts';

export function toVolumeJson(volume: Volume): VolumeJson {
  return {
    id: volume.id,
    name: volume.name,
    storageNodeId: volume.storageNodeId,
    storageNode: volume.storageNode,
    sizeBytes: volume.sizeBytes,
    format: volume.format,
    state: volume.state,
    exportUri: volume.exportUri,
    checkpointLimit: volume.checkpointLimit,
    auditedAt: isoOrNull(volume.auditedAt),
    auditResult: volume.auditResult,
    sourceBackupId: volume.sourceBackupId,
    mixedWithBackupId: volume.mixedWithBackupId,
    labels: volume.labels,
    createdAt: iso(volume.createdAt),
  };
}

/** Refuses a name that a volume has, whatever its state. */
export async function requireFreeVolumeName(catalog: CatalogTransaction, name: string): Promise<void> {
  const taken = await catalog.volumes.find(name);
  if (!taken) return;
  throw new TidemarkError(
    'volume-name-taken',
    `Volume '${name}' exists already on storage node '${taken.storageNode}' and is ` +
      `${taken.state}. Choose another name, or delete that one first.`,
  );
}

export class VolumeService {
  readonly #catalog: Catalog;
  readonly #runs: RunStarter;

  constructor(catalog: Catalog, runs: RunStarter) {
    this.#catalog = catalog;
    this.#runs = runs;
  }

  create({
    name,
    storageNode,
    sizeBytes,
    format,
    labels = {},
  }: CreateVolume): Promise<StartedRun<{ volume: VolumeJson }>> {
    return this.#runs.start(async (catalog, runId) => {
      const node = await catalog.storageNodes.get(storageNode);
      requireOpen(node);
      await requireFreeVolumeName(catalog, name);
      const wanted = { id: randomUUID(), name, storageNodeId: node.id, sizeBytes, format, labels };
      const volume = await catalog.volumes.create(wanted, runId);
      const run = await catalog.runs.create({
        id: runId,
        kind: 'create-volume',
        storageNodeId: node.id,
        volumeId: volume.id,
        request: {
          volumeId: volume.id,
          name,
          storageNodeId: node.id,
          sizeBytes,
          format,
        } satisfies RunRequest<'create-volume'>,
      });
      return { run, volume: toVolumeJson(volume) };
    });
  }

  async list({ storageNode, ...query }: PlacedPageQuery) {
    const storageNodeId = await idOf(storageNode, this.#catalog.storageNodes);
    const { items, nextCursor } = await this.#catalog.volumes.list({ ...chosenPage(query), storageNodeId });
    return { items: items.map(toVolumeJson), nextCursor };
  }

  async get(ref: string): Promise<VolumeJson> {
    return toVolumeJson(await this.#catalog.volumes.get(ref));
  }

  async find(id: string): Promise<VolumeJson | null> {
    const volume = await this.#catalog.volumes.find(id);
    return volume && toVolumeJson(volume);
  }

  /** Checkpoints that it has stay, also where they are more than it may have from now on. */
  async update(ref: string, changes: UpdateVolume): Promise<VolumeJson> {
    const { id } = await this.#catalog.volumes.get(ref);
    return toVolumeJson(await this.#catalog.volumes.update(id, changes));
  }

  move(ref: string, wanted: MoveVolume): Promise<StartedRun<{ volume: VolumeJson }>> {
    return this.#runs.start(async (catalog, runId) => {
      const { run, volume } = await intendMove(catalog, runId, { volume: ref, ...wanted });
      return { run, volume: toVolumeJson(volume) };
    });
  }

  remove(ref: string): Promise<StartedRun<{ volume: VolumeJson }>> {
    return this.#runs.start(async (catalog, runId) => {
      const { id, state } = await catalog.volumes.get(ref);
      // Of one that is lost there is nothing but its row.
      if (state !== 'lost') await catalog.volumes.getReady(id);
      await catalog.volumes.markDeleting(id, runId);
      const volume = await catalog.volumes.get(id);
      if (state !== 'lost') requireOnline(await catalog.storageNodes.get(volume.storageNodeId));
      const run = await catalog.runs.create({
        id: runId,
        kind: 'delete-volume',
        storageNodeId: volume.storageNodeId,
        volumeId: id,
        request: {
          volumeId: id,
          name: volume.name,
          storageNodeId: volume.storageNodeId,
        } satisfies RunRequest<'delete-volume'>,
      });
      return { run, volume: toVolumeJson(volume) };
    });
  }
}
