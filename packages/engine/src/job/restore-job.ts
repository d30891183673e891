// Copies an image that nobody writes to (a backup, read through its chain) to a target: no filter, no
// bitmap. What of the source cannot be read can be left out, so that the rest is saved.

import type { Bitmap } from '../bitmap/bitmap.ts';
import { BlockCopy, type CopyFailure } from '../copy/block-copy.ts';
import { isUnreadable } from '../copy/unreadable.ts';
import { EngineError } from '../errors.ts';
import type { BlockGraph } from '../graph/block-graph.ts';
import { PERMISSION, PERMISSIONS_ALL } from '../graph/permissions.ts';
import { CopyJob } from './copy-job.ts';
import { type JobOptions, validateJobId } from './job-options.ts';

export interface RestoreJobOptions extends JobOptions {
  graph: BlockGraph;
  /** Names of block nodes. */
  sourceNode: string;
  targetNode: string;
  /** The target reads as zeroes where nothing was written. */
  targetIsZero: boolean;
  /** Others may go on using the target, a disk of somebody. Default false. */
  sharesTarget?: boolean;
  workers?: number;
  /**
   * Takes what need not be copied out of the bitmap, before the copy begins. It calls `rest` often, with nothing of it
   * under way, and passes on what that rejects with: the job is to end.
   */
  narrow?: ((copy: Bitmap, rest: () => Promise<void>) => Promise<void>) | undefined;
  /** Told of each cluster that cannot be read; it is left out. Default: such a cluster ends the job. */
  onUnreadable?: ((offset: number, length: number) => void) | undefined;
}

export class RestoreJob extends CopyJob {
  readonly type = 'restore';
  readonly #options: RestoreJobOptions;
  readonly #detach: () => Promise<void>;

  /** Throws kind `conflict` when another user excludes the job, `invalid-argument` for unequal sizes. */
  constructor(options: RestoreJobOptions) {
    const { graph, id } = options;
    validateJobId(id);
    const { sizeBytes } = graph.get(options.sourceNode);
    if (graph.get(options.targetNode).sizeBytes !== sizeBytes) {
      throw new EngineError(
        'invalid-argument',
        `Restore target must have the backup's size of ${sizeBytes} bytes`,
      );
    }
    const user = `restore job '${id}'`;
    const source = graph.attach(options.sourceNode, {
      user,
      uses: PERMISSION.consistentRead,
      shares: PERMISSION.consistentRead,
    });
    const target = graph.attach(options.targetNode, {
      user,
      uses: PERMISSION.write,
      shares: options.sharesTarget ? PERMISSIONS_ALL & ~PERMISSION.resize : PERMISSION.consistentRead,
    });
    const copy = new BlockCopy({ source, target, targetIsZero: options.targetIsZero });
    copy.copyBitmap.setAll();
    super({ ...options, copy, target });
    this.#options = options;
    this.#detach = async () => {
      await source.close();
      await target.close();
    };
  }

  protected override async run(): Promise<void> {
    await this.#options.narrow?.(this.copy.copyBitmap, () => this.pausePoint());
    await super.run();
  }

  /** Cluster by cluster: what can be read is copied, what cannot is left out. */
  protected override async passOver(failure: CopyFailure): Promise<CopyFailure | undefined> {
    const { onUnreadable } = this.#options;
    if (onUnreadable === undefined || !isDamage(failure)) return failure;
    const { copyBitmap, clusterBytes } = this.copy;
    const end = failure.offset + failure.length;
    for (let at = failure.offset; at < end && !this.cancelled; at += clusterBytes) {
      const length = Math.min(clusterBytes, end - at);
      const own = await this.copy.copyRange(at, length);
      if (own === undefined) continue;
      if (!isDamage(own)) return own;
      copyBitmap.reset(at, length);
      onUnreadable(at, length);
    }
    return undefined;
  }

  /** Nobody wants what is still being read: a source that hangs, or is away, is let go of. */
  protected override onCancel(force: boolean): void {
    super.onCancel(force);
    const { graph, sourceNode } = this.#options;
    graph.get(sourceNode).cancelInFlight();
  }

  protected override clean(): Promise<void> {
    return this.#detach();
  }
}

/** A failed question for the status names no bytes. */
function isDamage({ side, length, error }: CopyFailure): boolean {
  return side === 'source' && length > 0 && isUnreadable(error);
}
