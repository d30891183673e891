// Copies a frozen moment, read through its snapshot-access node, to a target. The filter below keeps the moment
// for as long as somebody wants it, so that the job needs no filter of its own, and a copy that failed can be
// made again, of the same point in time.
import type { Bitmap } from '../bitmap/bitmap.ts';
import { BlockCopy } from '../copy/block-copy.ts';
import { EngineError } from '../errors.ts';
import type { BlockGraph } from '../graph/block-graph.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import { PERMISSION } from '../graph/permissions.ts';
import { CopyJob } from './copy-job.ts';
import type { JobProgress } from './job.ts';
import { type JobOptions, validateJobId } from './job-options.ts';
import type { ErrorPolicies, JobFailure } from './policy-job.ts';

export interface MomentJobOptions extends JobOptions, ErrorPolicies {
  graph: BlockGraph;
  /** Names of block nodes: snapshot-access, and where the copy goes. */
  source: string;
  target: string;
  /** What is copied; undefined: all of the disk. */
  bits?: Bitmap | undefined;
  /** What earlier jobs have copied to this target; counted in the progress. */
  done?: JobProgress | undefined;
  /** The target reads as zeroes where nothing was written: zeroes are not sent. */
  targetIsZero: boolean;
  /** Why the moment is lost; undefined while it is whole. */
  broken: () => EngineError | undefined;
  workers?: number | undefined;
}

export class MomentJob extends CopyJob {
  readonly type = 'backup';
  readonly #targetNode: GraphNode;
  readonly #broken: () => EngineError | undefined;
  readonly #done: JobProgress | undefined;
  readonly #detach: () => Promise<void>;
  #failedSide: JobFailure['side'] | undefined;

  /** Throws kind `conflict` when another user excludes the job, `invalid-argument` for unequal sizes. */
  constructor(options: MomentJobOptions) {
    const { graph, id, bits, targetIsZero } = options;
    validateJobId(id);
    const targetNode = graph.get(options.target);
    if (targetNode.sizeBytes !== graph.get(options.source).sizeBytes) {
      throw new EngineError('invalid-argument', 'Source and target image have different sizes');
    }
    const user = `backup job '${id}'`;
    const source = graph.attach(options.source, { user, uses: PERMISSION.consistentRead });
    const target = graph.attach(options.target, {
      user,
      uses: PERMISSION.write,
      shares: PERMISSION.consistentRead,
    });
    const copy = new BlockCopy({ source, target, targetIsZero });
    if (bits === undefined) copy.copyBitmap.setAll();
    else copy.copyBitmap.merge(bits);
    super({ ...options, copy, target });
    this.#targetNode = targetNode;
    this.#broken = options.broken;
    this.#done = options.done;
    this.#detach = async () => {
      await source.close();
      await target.close();
    };
  }

  override progress(): JobProgress {
    const own = super.progress();
    if (this.#done === undefined) return own;
    const { currentBytes, sentBytes } = this.#done;
    return {
      currentBytes: currentBytes + own.currentBytes,
      totalBytes: currentBytes + own.totalBytes,
      sentBytes: sentBytes + own.sentBytes,
    };
  }

  /** Which side failed, of a job that ended so; undefined where that was neither. */
  get failedSide(): JobFailure['side'] | undefined {
    return this.#failedSide;
  }

  /** What is not on the target; of a job that has ended. */
  remaining(): Bitmap {
    return this.copy.copyBitmap.clone();
  }

  /** To be told when the moment is lost: the job ends soon, also when its target hangs. */
  giveUp(): void {
    this.#targetNode.cancelInFlight();
    this.wake();
  }

  protected override assertWorthGoingOn(): void {
    const broken = this.#broken();
    if (broken !== undefined) throw broken;
  }

  protected override settleFailure(failure: JobFailure): ReturnType<CopyJob['settleFailure']> {
    // A moment that is lost shows as a failed read, or as a target that was bidden to let go.
    this.assertWorthGoingOn();
    this.#failedSide = failure.side;
    return super.settleFailure(failure);
  }

  /** What earlier copies wrote may not have been flushed. */
  protected override get hasWritten(): boolean {
    return super.hasWritten || (this.#done?.currentBytes ?? 0) > 0;
  }

  protected override async flushTarget(): Promise<void> {
    try {
      await super.flushTarget();
    } catch (error) {
      this.assertWorthGoingOn();
      this.#failedSide = 'target';
      throw error;
    }
  }

  /** An attachment cannot do that: a target that hangs is let go of by its block node. */
  protected override onCancel(force: boolean): void {
    super.onCancel(force);
    if (force) this.#targetNode.cancelInFlight();
  }

  protected override clean(): Promise<void> {
    return this.#detach();
  }
}
