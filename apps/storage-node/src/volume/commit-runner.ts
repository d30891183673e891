// Commits of a volume's images into ones below. What the volume consists of changes in its record, with guests at
// rest where it is theirs: a crash before that leaves the old images, a crash after it the new ones.
import path from 'node:path';
import {
  type BlockGraph,
  type ChainAccess,
  type CommitJob,
  type MirrorJob,
  startCommit,
} from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import type { JobRecord } from '../host/job-record.ts';
import type { JobRunner } from '../host/job-runner.ts';
import { type CommitPlan, type CommitRequest, planCommit } from './commit-plan.ts';
import type { Volume } from './volume.ts';
import { repointLayer } from './volume-layers.ts';
import { VolumeLayout } from './volume-record.ts';
import type { VolumeRegistry } from './volume-registry.ts';

export interface StartCommitRequest extends CommitRequest {
  readonly volumeId: string;
  readonly speedBytesPerSecond: number;
}

export interface CommitAnswer {
  readonly jobId: string;
  readonly lostSnapshotIds: string[];
}

interface KnownCommit {
  readonly volumeId: string;
  readonly answer: CommitAnswer;
  /** Whether it was told to pivot or to keep. */
  decision?: boolean;
}

export class CommitRunner {
  readonly #graph: BlockGraph;
  readonly #volumes: VolumeRegistry;
  readonly #jobs: JobRunner;
  readonly #commits = new WeakMap<JobRecord, KnownCommit>();

  constructor(options: { graph: BlockGraph; volumes: VolumeRegistry; jobs: JobRunner }) {
    this.#graph = options.graph;
    this.#volumes = options.volumes;
    this.#jobs = options.jobs;
  }

  /**
   * Good to repeat. Throws what `planCommit` does, and `volume-busy` while something else relies on the images; the
   * volume is as it was then.
   */
  start(request: StartCommitRequest): Promise<CommitAnswer> {
    return this.#volumes.inTurn(request.volumeId, async volume => {
      const known = this.#find(request);
      if (known !== undefined) return known.commit.answer;
      const plan = planCommit(volume.record, request);
      volume.assertNoBackup();
      const { snapshots } = volume.record;
      await volume.beginCommit(plan);
      try {
        return await this.#begin(volume, plan, request.speedBytesPerSecond);
      } catch (error) {
        await volume.withdrawCommit(snapshots);
        throw error;
      }
    });
  }

  /**
   * Ends a job that is ready. Good to repeat with the same decision. Throws `commit-not-found`, `commit-not-ready`
   * before that, and `job-state` where it was decided otherwise.
   */
  finish(request: { volumeId: string; commitId: string; pivot: boolean }): void {
    const { volumeId, commitId, pivot } = request;
    const { name, mergedCommitId } = this.#volumes.get(volumeId).record;
    const known = this.#find(request);
    const text = `Commit ${commitId} of volume '${name}'`;
    // A storage node that has forgotten the job knows by the record how it ended.
    const decided = known === undefined && mergedCommitId === commitId ? true : known?.commit.decision;
    if (decided === pivot) return;
    if (decided !== undefined) {
      throw new TidemarkError('job-state', `${text} was told to ${decided ? 'pivot' : 'keep'} already.`);
    }
    if (known === undefined) {
      throw new TidemarkError(
        'commit-not-found',
        `Volume '${name}' has no commit ${commitId}: it was dismissed, or ended when the storage node last ` +
          'stopped. Its guest goes on where it was; start a new commit.',
      );
    }
    const { record, commit } = known;
    const { state } = record.snapshot();
    if (record.isEnded || (state !== 'ready' && state !== 'standby')) {
      const next = record.isEnded ? 'It has ended; start a new one.' : 'Wait until it is, or cancel it.';
      throw new TidemarkError('commit-not-ready', `${text} is ${state}, not ready. ${next}`);
    }
    // Asked to end where it stands, a ready job leaves the guest where it is.
    if (pivot) record.job.complete();
    else record.job.cancel({ force: false });
    commit.decision = pivot;
  }

  #find({ volumeId, commitId }: { volumeId: string; commitId: string }) {
    const record = this.#jobs.find(jobIdOf(commitId));
    const commit = record && this.#commits.get(record);
    return commit?.volumeId === volumeId ? { record: record!, commit } : undefined;
  }

  async #begin(volume: Volume, plan: CommitPlan, speedBytesPerSecond: number): Promise<CommitAnswer> {
    const jobId = jobIdOf(plan.commit.commitId);
    const job = await startCommit({
      graph: this.#graph,
      jobs: this.#jobs.registry,
      clock: this.#jobs.clock,
      id: jobId,
      access: ACCESS,
      device: volume.node.name,
      top: { node: volume.layerNode(plan.top).name },
      base: { node: volume.layerNode(plan.base).name },
      backingFile: plan.commit.active ? undefined : baseFileName(volume, plan),
      speedBytesPerSecond,
      beforePivot: () => volume.pivot(plan),
    });
    const record = this.#jobs.adopt(job, succeeded => this.#after(volume, plan, { job, succeeded }));
    const answer = { jobId, lostSnapshotIds: [...plan.lostSnapshotIds] };
    this.#commits.set(record, { volumeId: volume.record.volumeId, answer });
    return answer;
  }

  async #after(
    volume: Volume,
    plan: CommitPlan,
    { job, succeeded }: { job: CommitJob | MirrorJob; succeeded: boolean },
  ): Promise<void> {
    const isMerged = 'pivoted' in job ? job.pivoted : succeeded;
    await this.#volumes.inTurn(volume.record.volumeId, () => volume.endCommit(plan, isMerged));
  }
}

/** Images go by their block nodes here, and all of them are open for writing. */
const ACCESS: ChainAccess = {
  filenameOf: () => '',
  isCalled: () => false,
  setReadOnly: async () => {},
  repoint: repointLayer,
};

function baseFileName(volume: Volume, { base }: CommitPlan): string {
  return path.basename(new VolumeLayout(volume.record.volumeId).layer(base));
}

function jobIdOf(commitId: string): string {
  return `commit-${commitId}`;
}
