// The snapshots and commits of a scripted storage node: images are ids in a list, the lowest first. A commit's
// job counts up like any other; that of what the guest writes to stays ready until it is told how to end.
import { type FinishCommitRequest, JobStatus, type Snapshot, type StartCommitRequest } from '@tidemark/proto';
import type { Handlers } from './scripted-handlers.ts';
import { refuse } from './scripted-refusal.ts';

interface Commit {
  readonly answer: { jobId: string; lostSnapshotIds: string[] };
  decision?: boolean;
}

/** What it needs of its storage node. */
interface Host {
  readonly jobs: Map<string, JobStatus>;
  readonly holdJobs: boolean;
}

const TICK_MS = 10;
const TICKS = 4;
const TOTAL_BYTES = 4096;

export class ScriptedSnapshots {
  /** By volume, oldest first. */
  readonly lists = new Map<string, Snapshot[]>();
  readonly commits = new Map<string, Commit>();
  /** Commits that ended with the guest in the base, or that merged a snapshot. */
  readonly mergedIds: string[] = [];
  readonly #host: Host;

  constructor(host: Host) {
    this.#host = host;
  }

  names(volumeId: string): string[] {
    return (this.lists.get(volumeId) ?? []).map(({ name }) => name);
  }

  /** As a restart does: jobs are gone, and with them what was asked of them. */
  forget(): void {
    this.#host.jobs.clear();
    this.commits.clear();
  }

  handlers(): Handlers {
    return {
      createSnapshot: ({ volumeId, snapshotId, name }) => {
        const list = this.lists.get(volumeId) ?? [];
        const snapshot = { snapshotId, name, createdAtMs: 1_700_000_000_000 + list.length };
        this.lists.set(volumeId, [...list, snapshot]);
        return snapshot;
      },
      listSnapshots: ({ volumeId }) => ({ snapshots: this.lists.get(volumeId) ?? [] }),
      startCommit: request => this.#start(request),
      finishCommit: request => this.#finish(request),
      getJob: ({ jobId }) => {
        const status = this.#host.jobs.get(jobId);
        if (!status) throw refuse('job-not-found', jobId);
        return status;
      },
    };
  }

  #start(request: StartCommitRequest): Commit['answer'] {
    const { volumeId, commitId, topSnapshotId, baseSnapshotId, shallow, active } = request;
    const jobId = `commit-${commitId}`;
    const known = this.commits.get(commitId);
    if (known && this.#host.jobs.has(jobId)) return known.answer;
    const list = this.lists.get(volumeId) ?? [];
    const at = topSnapshotId === '' ? list.length : indexOf(list, topSnapshotId);
    const lowest = shallow ? at - 1 : 0;
    const into = baseSnapshotId === '' ? lowest : indexOf(list, baseSnapshotId);
    if (into < 0 || (into >= at && list.length > 0)) throw refuse('commit-invalid', 'nothing is below');
    const left = list.filter((_, index) => index < into || index >= at);
    const lostSnapshotIds = list.filter(one => !left.includes(one)).map(one => one.snapshotId);
    this.lists.set(volumeId, left);
    const answer = { jobId, lostSnapshotIds };
    this.commits.set(commitId, { answer });
    this.#startJob(jobId, () => (active ? 'ready' : this.#merge(commitId)));
    return answer;
  }

  #finish({ commitId, pivot }: FinishCommitRequest): object {
    const commit = this.commits.get(commitId);
    const status = commit && this.#host.jobs.get(commit.answer.jobId);
    if (!commit || !status) throw refuse('commit-not-found', commitId);
    if (commit.decision === pivot) return {};
    if (commit.decision !== undefined) throw refuse('job-state', `${commitId} was told otherwise`);
    if (status.state !== 'ready') throw refuse('commit-not-ready', `${commitId} is ${status.state}`);
    commit.decision = pivot;
    const end = setInterval(() => {
      if (this.#host.holdJobs) return;
      clearInterval(end);
      status.state = pivot ? this.#merge(commitId) : 'concluded';
    }, TICK_MS).unref();
    return {};
  }

  #merge(commitId: string): 'concluded' {
    this.mergedIds.push(commitId);
    return 'concluded';
  }

  #startJob(jobId: string, last: () => string): void {
    const status = JobStatus.fromPartial({
      jobId,
      type: 'commit',
      state: 'running',
      totalBytes: TOTAL_BYTES,
    });
    this.#host.jobs.set(jobId, status);
    let tick = 0;
    const timer = setInterval(() => {
      if (status.state === 'concluded') return clearInterval(timer);
      if (this.#host.holdJobs && tick >= TICKS / 2) return;
      tick += 1;
      status.currentBytes = (TOTAL_BYTES * tick) / TICKS;
      if (tick < TICKS) return;
      clearInterval(timer);
      status.state = last();
    }, TICK_MS).unref();
  }
}

function indexOf(list: readonly Snapshot[], snapshotId: string): number {
  const index = list.findIndex(one => one.snapshotId === snapshotId);
  if (index < 0) throw refuse('snapshot-not-found', snapshotId);
  return index;
}
