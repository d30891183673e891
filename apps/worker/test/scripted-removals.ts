// Removals of backups as a scripted storage node plays them: chains are lists of parents, jobs only count.
import { type ErrorCode, JobStatus, type StoredBackup } from '@tidemark/proto';
import type { Handlers } from './scripted-handlers.ts';
import { refuse } from './scripted-refusal.ts';
import type { ScriptedStorageNode } from './scripted-storage-node.ts';

const TICK_MS = 10;
const TICKS = 4;
/** Of a merged backup beside what parent and child had: they share something. */
const SHARED_BYTES = 12;

export class ScriptedRemovals {
  readonly #node: ScriptedStorageNode;
  /** In the order in which they ended. */
  readonly ended: string[] = [];
  /** Children that somebody reads. */
  readonly read = new Set<string>();
  /** How removals of single backups fail. */
  readonly failures = new Map<string, { code: ErrorCode; message: string }>();

  constructor(node: ScriptedStorageNode) {
    this.#node = node;
  }

  handlers(): Handlers {
    const { published } = this.#node;
    return {
      listBackups: () => ({ backups: [...published.values()] }),
      startRemoval: ({ backupId }) => this.#start(backupId),
    };
  }

  #start(backupId: string): { jobId: string } {
    const { jobs, published } = this.#node;
    const jobId = `removal-${backupId}`;
    const known = jobs.get(jobId);
    if (known !== undefined && (known.state !== 'concluded' || known.error === undefined)) return { jobId };
    const backup = published.get(backupId);
    if (backup === undefined) throw refuse('backup-not-found', backupId);
    backup.hidden = true;
    const children = [...published.values()].filter(({ parentBackupId }) => parentBackupId === backupId);
    if (children.length > 1) throw refuse('backup-in-use', `${backupId} has ${children.length} children`);
    if (children.some(child => this.read.has(child.backupId)))
      throw refuse('backup-in-use', 'its child is read');
    const status = JobStatus.fromPartial({ jobId, type: 'removal', state: 'running', totalBytes: 512 });
    jobs.set(jobId, status);
    let tick = 0;
    const timer = setInterval(() => {
      if (status.state === 'concluded') return clearInterval(timer);
      if (this.#node.holdJobs && tick >= TICKS / 2) return;
      status.currentBytes = (status.totalBytes * ++tick) / TICKS;
      if (tick < TICKS) return;
      const failure = this.failures.get(backupId) ?? this.#node.jobError;
      if (failure === undefined) this.end(backup);
      else status.error = failure;
      status.state = 'concluded';
    }, TICK_MS).unref();
    return { jobId };
  }

  /** As a storage node also does by itself, when it starts. */
  end({ backupId, parentBackupId, storedBytes }: StoredBackup): void {
    const { published } = this.#node;
    published.delete(backupId);
    this.ended.push(backupId);
    for (const child of published.values()) {
      if (child.parentBackupId !== backupId) continue;
      child.parentBackupId = parentBackupId;
      child.storedBytes += storedBytes - SHARED_BYTES;
      if (parentBackupId === '') child.kind = 'full';
    }
  }
}
