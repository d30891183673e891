// Copies an image that nobody writes to (a backup, read through its chain) to a target: no filter, no
// bitmap.

import { BlockCopy } from '../copy/block-copy.ts';
import { EngineError } from '../errors.ts';
import type { BlockGraph } from '../graph/block-graph.ts';
import { PERMISSION } from '../graph/permissions.ts';
import { CopyJob } from './copy-job.ts';
import { type JobOptions, validateJobId } from './job-options.ts';

export interface RestoreJobOptions extends JobOptions {
  graph: BlockGraph;
  /** Names of block nodes. */
  sourceNode: string;
  targetNode: string;
  /** The target reads as zeroes where nothing was written. */
  targetIsZero: boolean;
  workers?: number;
}

export class RestoreJob extends CopyJob {
  readonly type = 'restore';
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
      shares: PERMISSION.consistentRead,
    });
    const copy = new BlockCopy({ source, target, targetIsZero: options.targetIsZero });
    copy.copyBitmap.setAll();
    super({ ...options, copy, target });
    this.#detach = async () => {
      await source.close();
      await target.close();
    };
  }

  protected override clean(): Promise<void> {
    return this.#detach();
  }
}
