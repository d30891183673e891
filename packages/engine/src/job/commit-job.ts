// Merges the images from `top` down to above `base` into `base`, where nobody writes to `top`: an intermediate commit.
// At the end those who stand on `top` stand on `base`; the images between keep what they have, and nobody uses them.
import { fromSystemError } from '../errors.ts';
import type { BlockGraph } from '../graph/block-graph.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import { CHAIN_CHUNK_BYTES } from '../limits.ts';
import type { BlockNode } from '../node/block-node.ts';
import type { BackingPointer, ChainAccess } from './chain-access.ts';
import { ChainJob, type ChainRun } from './chain-job.ts';
import type { JobOptions } from './job-options.ts';
import type { JobPlace } from './job-place.ts';
import type { ErrorPolicies, JobFailure } from './policy-job.ts';

export interface CommitJobOptions extends JobOptions, ErrorPolicies {
  graph: BlockGraph;
  access: ChainAccess;
  place: JobPlace;
  top: GraphNode;
  base: GraphNode;
  /** How many images are merged: those of `top`'s chain above `base`. */
  images: number;
  /** What the overlays' headers are to say of `base`. */
  pointer: BackingPointer;
  /** At the very end, whatever came of it. */
  release(): Promise<void>;
}

export class CommitJob extends ChainJob {
  readonly type = 'commit';
  protected readonly walked: BlockNode;
  protected readonly depths: { min: number; max: number };
  readonly #base: GraphNode;
  readonly #options: CommitJobOptions;
  readonly #buffer = Buffer.allocUnsafeSlow(CHAIN_CHUNK_BYTES);

  /** Holds all that it was given from here on, until it is concluded. */
  constructor(options: CommitJobOptions) {
    super(options);
    this.#options = options;
    this.walked = options.top;
    this.#base = options.base;
    this.depths = { min: 1, max: options.images };
  }

  protected override onCancel(force: boolean): void {
    if (force) this.#base.cancelInFlight();
  }

  protected override async run(): Promise<void> {
    const { graph, base } = this.#options;
    const { sizeBytes } = this.walked;
    if (base.sizeBytes < sizeBytes) {
      await graph.drainedWithJobs([base], () => base.resize(sizeBytes));
      graph.fitBitmaps([base]);
    }
    await this.walk();
    await this.#flushBase(sizeBytes);
  }

  /** What the base holds must be durable before anybody lets go of the images above. */
  async #flushBase(offset: number): Promise<void> {
    for (;;) {
      try {
        await this.#base.flush();
        return;
      } catch (cause) {
        if (this.cancelled) return;
        await this.settleFailure({ side: 'target', error: fromSystemError(cause, { op: 'flush' }), offset });
        await this.pausePoint();
      }
    }
  }

  protected override async copyRun(offset: number, run: ChainRun): Promise<JobFailure | undefined> {
    let side: JobFailure['side'] = 'source';
    try {
      const part = this.#buffer.subarray(0, run.length);
      if (!run.zero) await this.walked.read(offset, part);
      side = 'target';
      if (run.zero) await this.#base.writeZeroes(offset, run.length, { mayUnmap: true });
      else await this.#base.write(offset, part);
      return undefined;
    } catch (cause) {
      return {
        side,
        error: fromSystemError(cause, { op: `commit (${side})`, offset, length: run.length }),
        offset,
      };
    }
  }

  /** From here on the images between are out of the chain. */
  protected override async prepare(): Promise<void> {
    const { graph, access, place, base, pointer } = this.#options;
    const { filter } = place;
    place.loosen();
    const overlays = [...filter.parents].filter(edge => edge.role === 'backing').map(edge => edge.parent!);
    await withWritable(overlays, access, () =>
      graph.change([filter, base], {
        async begin() {},
        apply: change => change.moveUsers(filter, base),
        async prepare(change) {
          for (const overlay of overlays) change.setDriver(overlay, await access.repoint(overlay, pointer));
        },
        commit() {},
      }),
    );
  }

  protected override async clean(): Promise<void> {
    await this.#options.place.leave();
    await this.#options.release();
  }
}

/** Runs `section` with the nodes open for writing; those that were not are read-only again afterwards. */
async function withWritable(
  nodes: readonly GraphNode[],
  access: ChainAccess,
  section: () => Promise<void>,
): Promise<void> {
  const turned: GraphNode[] = [];
  try {
    for (const node of nodes) {
      if (!node.readOnly) continue;
      await access.setReadOnly(node, false);
      turned.push(node);
    }
    await section();
  } finally {
    // One that somebody writes to by then stays open for that.
    for (const node of turned) await access.setReadOnly(node, true).catch(() => undefined);
  }
}
