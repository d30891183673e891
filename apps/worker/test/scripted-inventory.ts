// What a scripted storage node tells of all that it has, and the calls that put it in order.
import {
  type Checkpoint,
  JobDamage,
  JobStatus,
  Moment,
  type OpenBackupInfo,
  Repository,
  RepositoryWork,
  StorageNodeStatus,
  StoredBackup,
  type Volume,
} from '@tidemark/proto';
import type { Handlers } from './scripted-handlers.ts';
import { refuse } from './scripted-refusal.ts';

/** What it needs of its storage node. */
interface Host {
  readonly name: string;
  readonly instanceId: string;
  readonly startedAtMs: number;
  readonly volumes: Map<string, Volume>;
  readonly checkpoints: Map<string, Checkpoint & { volumeId: string }>;
  readonly repositories: Map<string, string>;
  readonly partial: Map<string, object>;
  readonly published: Map<string, StoredBackup>;
  readonly jobs: Map<string, JobStatus>;
  readonly restores: { readonly damage: Map<string, JobDamage> };
}

export class ScriptedInventory {
  readonly moments = new Map<string, Moment>();
  readonly open: OpenBackupInfo[] = [];
  /** Audits end as different when there are any. */
  readonly differing: { offset: number; length: number }[] = [];
  readonly #host: Host;

  constructor(host: Host) {
    this.#host = host;
  }

  handlers(): Handlers {
    const { volumes, checkpoints, repositories, partial, published } = this.#host;
    const checkpointsOf = (volumeId: string) =>
      [...checkpoints.values()].filter(checkpoint => checkpoint.volumeId === volumeId);
    return {
      getStatus: () => {
        const { name, instanceId, startedAtMs } = this.#host;
        const facts = {
          version: '1',
          nbdAddress: '127.0.0.1:10809',
          capacityBytes: 1000,
          availableBytes: 900,
        };
        return StorageNodeStatus.fromPartial({ name, instanceId, startedAtMs, ...facts });
      },
      listVolumes: () => ({
        volumes: [...volumes.values()].map(one => ({
          ...one,
          checkpoints: [...one.checkpoints, ...checkpointsOf(one.volumeId)],
        })),
      }),
      listRepositories: () => ({
        repositories: [...repositories].map(([repositoryId, name]) =>
          Repository.fromPartial({ repositoryId, name }),
        ),
      }),
      getBackup: ({ backupId }) => {
        const stored = published.get(backupId);
        if (stored === undefined) throw refuse('backup-not-found', backupId);
        return StoredBackup.fromPartial({ ...stored, hasSums: true });
      },
      listRepositoryWork: () =>
        RepositoryWork.fromPartial({
          partials: [...partial.keys()].map(backupId => ({ backupId })),
          open: this.open,
        }),
      startAudit: ({ step }) => this.#startAudit(`audit-${step.runId}`),
    };
  }

  close(backupId: string, runId: string): void {
    const index = this.open.findIndex(one => one.backupId === backupId && one.runId === runId);
    if (index >= 0) this.open.splice(index, 1);
  }

  addMoment(momentId: string, volumeId: string): void {
    this.moments.set(momentId, Moment.fromPartial({ momentId, volumeId, kind: 'backup' }));
  }

  #startAudit(jobId: string): unknown {
    const isDifferent = this.differing.length > 0;
    const error = { code: 'audit-failed', message: 'They differ.' };
    const status = {
      jobId,
      type: 'audit',
      state: 'concluded',
      currentBytes: 512,
      startedAtMs: 1_700_000_000_500,
    };
    this.#host.jobs.set(jobId, JobStatus.fromPartial({ ...status, ...(isDifferent && { error }) }));
    this.#host.restores.damage.set(jobId, JobDamage.fromPartial({ ranges: this.differing }));
    return { jobId, cleanBytes: 1024 };
  }
}
