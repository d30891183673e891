// Pulls what an image reads from the images below it into the image itself, down to a base that stays: `block-stream`.
// At the end the image stands on that base, or on nothing.
import { fromSystemError } from '../errors.ts';
import type { CopyOnRead } from '../filter/copy-on-read.ts';
import type { BlockGraph } from '../graph/block-graph.ts';
import { childOf } from '../graph/chain.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import { CHAIN_CHUNK_BYTES } from '../limits.ts';
import type { BlockNode } from '../node/block-node.ts';
import type { BackingPointer, ChainAccess } from './chain-access.ts';
import { ChainJob, type ChainRun } from './chain-job.ts';
import type { JobOptions } from './job-options.ts';
import type { JobPlace } from './job-place.ts';
import type { ErrorPolicies, JobFailure } from './policy-job.ts';

export interface StreamJobOptions extends JobOptions, ErrorPolicies {
  graph: BlockGraph;
  access: ChainAccess;
  /** The image that is filled, below its filters. */
  image: GraphNode;
  place: JobPlace;
  filterDriver: CopyOnRead;
  /** The block node that the image is to stand on. */
  base: GraphNode | undefined;
  pointer: BackingPointer | undefined;
  /** How many images lie between the filled one and the base. */
  images: number;
  /** At the very end, whatever came of it. */
  release(): Promise<void>;
}

export class StreamJob extends ChainJob {
  readonly type = 'stream';
  protected readonly walked: BlockNode;
  protected readonly depths: { min: number; max: number };
  readonly #options: StreamJobOptions;
  readonly #buffer = Buffer.allocUnsafeSlow(CHAIN_CHUNK_BYTES);
  #ignored: JobFailure | undefined;

  /** Holds all that it was given from here on, until it is concluded. */
  constructor(options: StreamJobOptions) {
    super(options);
    this.#options = options;
    this.walked = options.filterDriver.image;
    this.depths = { min: 2, max: 1 + options.images };
    options.image.guard = (...change) => options.filterDriver.guard(...change);
  }

  protected override async run(): Promise<void> {
    // With nothing between there is nothing to walk through.
    if (this.#options.images > 0) await this.walk();
    if (this.#ignored !== undefined) throw this.#ignored.error;
  }

  protected override async copyRun(offset: number, run: ChainRun): Promise<JobFailure | undefined> {
    const image = this.walked;
    return this.#options.filterDriver.alone(offset, run.length, async () => {
      // Guests may have written here since the status was asked for.
      let failure: JobFailure | undefined;
      for (const { offset: at, length, depth, zero } of await image.extents(offset, run.length)) {
        if (depth < this.depths.min || depth > this.depths.max) continue;
        failure ??= await this.#fill(at, length, zero);
      }
      return failure;
    });
  }

  async #fill(offset: number, length: number, zero: boolean): Promise<JobFailure | undefined> {
    try {
      if (zero) {
        await this.#options.image.zeroUnchanged(offset, length);
        return undefined;
      }
      const part = this.#buffer.subarray(0, length);
      await this.walked.read(offset, part);
      await this.#options.image.writeUnchanged(offset, part);
      return undefined;
    } catch (cause) {
      return { side: 'source', error: fromSystemError(cause, { op: 'stream', offset, length }), offset };
    }
  }

  /** What could not be read stays below, so that the job fails at its end; the rest is pulled up all the same. */
  protected override ignored(failure: JobFailure): boolean {
    this.#ignored ??= failure;
    return true;
  }

  protected override async prepare(): Promise<void> {
    const { graph, access, image, base, pointer, place } = this.#options;
    if (childOf(image, 'backing') === undefined) return;
    place.loosen();
    await graph.change([image, ...(base ? [base] : [])], {
      async begin() {},
      apply: change => change.setChild(image, 'backing', base),
      async prepare(change) {
        change.setDriver(image, await access.repoint(image, pointer));
      },
      commit() {},
    });
  }

  protected override async clean(): Promise<void> {
    this.#options.image.guard = undefined;
    await this.#options.place.leave();
    await this.#options.release();
  }
}
