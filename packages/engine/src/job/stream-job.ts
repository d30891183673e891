// Pulls what an image reads from the images below it into the image itself, down to a base that stays: `block-stream`.
// At the end the image stands on that base, or on nothing.
import { isUnreadable } from '../copy/unreadable.ts';
import { fromSystemError } from '../errors.ts';
import type { CopyOnRead } from '../filter/copy-on-read.ts';
import type { BlockGraph } from '../graph/block-graph.ts';
import { childOf } from '../graph/chain.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import { CHAIN_CHUNK_BYTES, COPY_CLUSTER_BYTES_MIN } from '../limits.ts';
import type { BlockNode } from '../node/block-node.ts';
import { alignUp } from '../units.ts';
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
  /**
   * Told of each cluster that cannot be read below, before it becomes zeroes in the image; nobody else changes it
   * meanwhile. Default: such a cluster is a failure of the job.
   */
  onUnreadable?: ((offset: number, length: number) => Promise<void>) | undefined;
  /** The job was cancelled: what it waits for below is to give up. */
  onCancelled?: (() => void) | undefined;
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

  protected override onCancel(force: boolean): void {
    if (force) this.#options.onCancelled?.();
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
      const error = fromSystemError(cause, { op: 'stream', offset, length });
      if (this.#options.onUnreadable === undefined || !isUnreadable(error)) {
        return { side: 'source', error, offset };
      }
      return this.#fillAround(offset, length, this.#options.onUnreadable);
    }
  }

  /** The same, one cluster at a time. */
  async #fillAround(
    offset: number,
    length: number,
    onUnreadable: (offset: number, length: number) => Promise<void>,
  ): Promise<JobFailure | undefined> {
    const { image } = this.#options;
    const clusterBytes = image.clusterSizeBytes ?? COPY_CLUSTER_BYTES_MIN;
    for (let at = offset; at < offset + length; ) {
      const end = Math.min(alignUp(at + 1, clusterBytes), offset + length);
      const part = this.#buffer.subarray(0, end - at);
      try {
        const isRead = await this.#read(at, part);
        if (isRead) await image.writeUnchanged(at, part);
        else {
          await onUnreadable(at, part.length);
          await image.zeroUnchanged(at, part.length);
        }
      } catch (cause) {
        const error = fromSystemError(cause, { op: 'stream', offset: at, length: part.length });
        return { side: 'source', error, offset };
      }
      at = end;
    }
    return undefined;
  }

  /** False where the bytes are lost. */
  async #read(offset: number, part: Buffer): Promise<boolean> {
    try {
      await this.walked.read(offset, part);
      return true;
    } catch (error) {
      if (isUnreadable(error)) return false;
      throw error;
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
