// Restores as a scripted storage node plays them: volumes appear at once, jobs only count.
import {
  Checkpoint,
  type JobDamage,
  type RestoreVolume,
  type StartRestoreRequest,
  type Volume,
} from '@tidemark/proto';
import type { Handlers } from './scripted-handlers.ts';
import type { ScriptedStorageNode } from './scripted-storage-node.ts';

const NO_DAMAGE: JobDamage = { bytes: 0, ranges: [], truncated: false };

export class ScriptedRestores {
  readonly #node: ScriptedStorageNode;
  /** What the next restore's job cannot read. */
  damageOfNext: JobDamage | undefined;
  /** The latest. */
  request: StartRestoreRequest | undefined;
  /** By job; also of verifications. */
  readonly damage = new Map<string, JobDamage>();
  /** By run. */
  readonly #started = new Map<string, { jobId: string; filePath: string; differingBytes: number }>();
  /** Of the volumes that jobs fill or pull for. */
  readonly #jobs = new Map<string, { jobId: string; isInstant: boolean }>();

  constructor(node: ScriptedStorageNode) {
    this.#node = node;
  }

  handlers(): Handlers {
    return {
      startRestore: request => this.#start(request),
      getJobDamage: ({ jobId }) => this.damage.get(jobId) ?? NO_DAMAGE,
    };
  }

  /** Before the volume is deleted: true where a job does not let it go. */
  holds(volumeId: string): boolean {
    const job = this.#jobs.get(volumeId);
    const status = job && this.#node.jobs.get(job.jobId);
    if (job?.isInstant && status !== undefined) {
      status.error = { code: 'run-cancelled', message: 'The volume was deleted.' };
      status.state = 'concluded';
      this.#node.jobs.delete(job.jobId);
    }
    return job !== undefined && this.#node.jobs.get(job.jobId)?.state === 'running';
  }

  #start(request: StartRestoreRequest): unknown {
    this.request = request;
    const { step, sourceUri, sizeBytes, target } = request;
    const known = this.#started.get(step!.runId);
    if (known && this.#node.jobs.has(known.jobId)) return known;
    const isInstant = target?.$case === 'instant';
    const volume =
      target?.$case === 'volume' || isInstant ? this.#volume(target.value, sizeBytes) : undefined;
    const jobId = this.#node.startJob(isInstant ? 'stream' : 'restore', sizeBytes, {
      uri: sourceUri,
      ...(!isInstant && { jobId: `restore-${step!.runId}` }),
      ended: () => {
        if (volume !== undefined) volume.source = undefined;
      },
    });
    if (volume !== undefined) {
      this.#node.volumes.set(volume.volumeId, volume);
      this.#jobs.set(volume.volumeId, { jobId, isInstant });
      if (isInstant)
        volume.source = { backupId: target.value.backupId, uri: sourceUri, leftBytes: sizeBytes };
    }
    this.damage.set(jobId, this.damageOfNext ?? NO_DAMAGE);
    this.damageOfNext = undefined;
    const filePath = target?.$case === 'file' ? `/restores/${target.value.name}` : '';
    const answer = { jobId, filePath, differingBytes: target?.$case === 'inPlace' ? sizeBytes / 2 : 0 };
    this.#started.set(step!.runId, answer);
    return answer;
  }

  #volume(
    { checkpointId, checkpointName: name, backupId, ...wanted }: RestoreVolume,
    sizeBytes: number,
  ): Volume {
    const volume = this.#node.makeVolume({ ...wanted, sizeBytes });
    const facts = { createdAtMs: 1_700_000_000_000, originBackupId: backupId };
    if (checkpointId !== '') volume.checkpoints = [Checkpoint.fromPartial({ checkpointId, name, ...facts })];
    return volume;
  }
}
