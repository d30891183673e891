// Bitmap audits of volumes: asked for here, done by a run.
import type { Catalog } from '@tidemark/catalog';
import type { RunRequest } from '@tidemark/proto';
import type { StartedRun } from '../runs/run-json.ts';
import type { RunStarter } from '../runs/run-starter.ts';
import type { AuditVolume } from '../schemas/audit.ts';
import type { VolumeJson } from '../schemas/volume.ts';
import { requireOnline } from '../storage-nodes/storage-node-service.ts';
import { toVolumeJson } from './volume-service.ts';

export class AuditService {
  readonly #catalog: Catalog;
  readonly #runs: RunStarter;

  constructor(catalog: Catalog, runs: RunStarter) {
    this.#catalog = catalog;
    this.#runs = runs;
  }

  start(ref: string, body: AuditVolume): Promise<StartedRun<{ volume: VolumeJson }>> {
    return this.#runs.start(async (catalog, runId) => {
      const volume = await catalog.volumes.getReady(ref);
      requireOnline(await catalog.storageNodes.get(volume.storageNodeId));
      const { repository, sampleBytes } = body;
      const repositoryId = repository ? (await catalog.repositories.getReady(repository)).id : null;
      const request: RunRequest<'audit'> = { volumeId: volume.id, repositoryId, sampleBytes };
      const { storageNodeId } = volume;
      const about = { storageNodeId, volumeId: volume.id, repositoryId };
      const run = await catalog.runs.create({ id: runId, kind: 'audit', ...about, request });
      return { run, volume: toVolumeJson(volume) };
    });
  }

  async find(id: string): Promise<VolumeJson | null> {
    const volume = await this.#catalog.volumes.find(id);
    return volume && toVolumeJson(volume);
  }
}
