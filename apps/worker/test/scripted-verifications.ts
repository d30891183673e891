// What a scripted storage node says of its repositories beyond backups: verifications, scans, deletions.
import { JobDamage, JobStatus, ScanReport } from '@tidemark/proto';
import type { Handlers } from './scripted-handlers.ts';
import { refuse } from './scripted-refusal.ts';
import type { ScriptedStorageNode } from './scripted-storage-node.ts';

const TICK_MS = 10;
const TICKS = 4;

export class ScriptedVerifications {
  /** Of the next verifications; empty: they find nothing. */
  ranges: { offset: number; length: number }[] = [];
  readonly #node: ScriptedStorageNode;

  constructor(node: ScriptedStorageNode) {
    this.#node = node;
  }

  handlers(): Handlers {
    const node = this.#node;
    return {
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

  #runJob(jobId: string, error: JobStatus['error']): void {
    const status = JobStatus.fromPartial({ jobId, type: 'verify', state: 'running', totalBytes: TICKS });
    this.#node.jobs.set(jobId, status);
    const timer = setInterval(() => {
      if (status.state === 'concluded') return clearInterval(timer);
      if (this.#node.holdJobs && status.currentBytes >= TICKS / 2) return;
      status.currentBytes += 1;
      if (status.currentBytes < TICKS) return;
      status.state = 'concluded';
      status.error = error;
    }, TICK_MS).unref();
  }
}
