// What a scripted storage node says of its repositories beyond backups: verifications, scans, deletions.
import { ScanReport } from '@tidemark/proto';
import { refuse } from './scripted-refusal.ts';
import type { ScriptedStorageNode } from './scripted-storage-node.ts';

// biome-ignore lint/suspicious/noExplicitAny: one table for requests of every type
type Handler = (request: any) => unknown;

export class ScriptedVerifications {
  /** Of the next verifications; empty: they find nothing. */
  ranges: { offset: number; length: number }[] = [];
  readonly #node: ScriptedStorageNode;

  constructor(node: ScriptedStorageNode) {
    this.#node = node;
  }

  handlers(): Record<string, Handler> {
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
        if (!node.jobs.has(jobId)) node.runJob(jobId, { type: 'verify', error: isSound ? undefined : error });
        return { jobId };
      },
      getJobDamage: () => ({
        ranges: this.ranges,
        bytes: this.ranges.reduce((sum, { length }) => sum + length, 0),
        truncated: false,
      }),
      scanRepository: () => ScanReport.fromPartial({ backups: [...node.published.values()] }),
      deleteRepository: ({ repositoryId }) => {
        node.repositories.delete(repositoryId);
        return {};
      },
    };
  }
}
