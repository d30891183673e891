// What a scripted storage node says of its repositories beyond backups: verifications, scans, deletions.
import { JobDamage, JobStatus, ScanReport, type StartReplicationRequest } from '@tidemark/proto';
import type { Handlers } from './scripted-handlers.ts';
import { refuse } from './scripted-refusal.ts';
import type { ScriptedStorageNode } from './scripted-storage-node.ts';

const TICK_MS = 10;
const TICKS = 4;
const TICK_BYTES = 1024;

export class ScriptedVerifications {
  /** Of the next verifications; empty: they find nothing. */
  ranges: { offset: number; length: number }[] = [];
  /** Of the next checks before publication; none: they find nothing. */
  faults: JobStatus['error'][] = [];
  /** What the next replications end with; none: they succeed. */
  replicationErrors: JobStatus['error'][] = [];
  /** All that were asked for. */
  readonly replications: StartReplicationRequest[] = [];
  readonly #node: ScriptedStorageNode;

  constructor(node: ScriptedStorageNode) {
    this.#node = node;
  }

  handlers(): Handlers {
    const node = this.#node;
    return {
      startCheck: ({ step, backupId, targetUri }) => {
        const jobId = `check-${step.runId}`;
        if (node.published.has(backupId)) return { jobId };
        if (node.partial.get(backupId)?.uri !== targetUri) throw refuse('backup-not-found', backupId);
        if (node.jobs.get(jobId)?.state !== 'running') this.#runJob(jobId, this.faults.shift(), 'check');
        return { jobId };
      },
      startReplication: request => {
        const { step, backupId, targetUri, sourceUri } = request;
        this.replications.push(request);
        const jobId = `replication-${step.runId}-${backupId}`;
        const partial = node.partial.get(backupId);
        if (partial?.uri !== targetUri) throw refuse('backup-not-found', backupId);
        const known = node.jobs.get(jobId);
        if (known?.state === 'running' || known?.state === 'paused') return { jobId };
        const isAway = !node.canReach(sourceUri);
        const error = isAway
          ? { code: 'io-error', message: 'the source is away' }
          : this.replicationErrors.shift();
        if (error?.code === 'backup-damaged') {
          const ranges = [{ offset: 0, length: 1024 }];
          node.restores.damage.set(jobId, JobDamage.fromPartial({ ranges, bytes: 1024 }));
        }
        this.#runJob(jobId, error, 'replication');
        return { jobId };
      },
      startVerify: ({ step, backupId }) => {
        const stored = node.published.get(backupId);
        if (!stored) throw refuse('backup-not-found', backupId);
        const jobId = `verify-${step.runId}`;
        const error = {
          code: 'backup-damaged' as const,
          message: `Backup ${backupId} is damaged: at 0, differs.`,
        };
        const isSound = this.ranges.length === 0;
        const bytes = this.ranges.reduce((sum, { length }) => sum + length, 0);
        node.restores.damage.set(jobId, JobDamage.fromPartial({ ranges: this.ranges, bytes }));
        if (!node.jobs.has(jobId)) this.#runJob(jobId, isSound ? undefined : error);
        return { jobId };
      },
      scanRepository: () => ScanReport.fromPartial({ backups: [...node.published.values()] }),
      deleteRepository: ({ repositoryId }) => {
        node.repositories.delete(repositoryId);
        return {};
      },
    };
  }

  #runJob(jobId: string, error: JobStatus['error'], type = 'verify'): void {
    const status = JobStatus.fromPartial({ jobId, type, state: 'running', totalBytes: TICKS * TICK_BYTES });
    this.#node.jobs.set(jobId, status);
    const timer = setInterval(() => {
      if (status.state === 'concluded') return clearInterval(timer);
      if (this.#node.holdJobs && status.currentBytes >= status.totalBytes / 2) return;
      status.currentBytes += TICK_BYTES;
      if (type === 'replication') status.sentBytes = status.currentBytes;
      if (status.currentBytes < status.totalBytes) return;
      status.state = 'concluded';
      status.error = error;
    }, TICK_MS).unref();
  }
}
