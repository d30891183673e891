// What a job on a chain takes hold of in the block graph: its filter's place, its uses of block nodes, and the word that
// nobody else may have them. All of it is given back at once.
import type { Attachment } from '../graph/attachment.ts';
import type { BlockGraph } from '../graph/block-graph.ts';
import type { DrainedWriter, GraphNode } from '../graph/graph-node.ts';
import type { AttachOptions } from '../graph/graph-options.ts';
import type { Job } from './job.ts';
import { validateJobId } from './job-options.ts';
import type { JobRegistry } from './job-registry.ts';

export interface JobUse extends AttachOptions {
  readonly node: GraphNode;
}

export interface JobPlaceOptions {
  readonly graph: BlockGraph;
  /** Not yet inserted; its `file` child is what it stands above. */
  readonly filter: GraphNode;
  /** In this order. */
  readonly uses: readonly JobUse[];
  /** Block nodes that are neither removed nor resized nor given to another job. */
  readonly blocked: readonly GraphNode[];
  /** What the job writes to. */
  readonly written: GraphNode;
}

export class JobPlace {
  readonly filter: GraphNode;
  readonly #options: JobPlaceOptions;
  readonly #attachments: Attachment[] = [];
  #blocker: string | undefined;
  #job: DrainedWriter | undefined;

  constructor(options: JobPlaceOptions) {
    this.#options = options;
    this.filter = options.filter;
  }

  /** Under drain. Throws kind `conflict` where somebody cannot live with the filter. */
  insert(): void {
    this.#options.graph.insertAbove(this.filter.children[0]!.node, this.filter);
  }

  /** Under drain. Throws kind `conflict`; what was taken by then is to be given back. */
  take(job: Job & DrainedWriter): void {
    const { graph, uses, blocked, written } = this.#options;
    this.#job = job;
    this.#blocker = `block job: ${job.type}`;
    for (const node of blocked) node.blockers.add(this.#blocker);
    this.filter.readers.add(job);
    written.writers.add(job);
    for (const { node, ...use } of uses) {
      this.#attachments.push(graph.attach(node.name, { ...use, atOnce: true }));
    }
  }

  /** Gives back the uses, which others would meet when they come in the job's stead. */
  async detach(): Promise<void> {
    for (const attachment of this.#attachments.splice(0)) await attachment.close();
  }

  /** Gives back everything; the filter is gone. */
  async leave(): Promise<void> {
    const { graph, blocked, written } = this.#options;
    await this.detach();
    if (this.#blocker !== undefined) for (const node of blocked) node.blockers.delete(this.#blocker);
    if (this.#job !== undefined) {
      this.filter.readers.delete(this.#job);
      written.writers.delete(this.#job);
    }
    await graph.drained([this.filter], () => {
      if (this.filter.inserted) graph.bypass(this.filter);
    });
    await graph.remove(this.filter.name);
  }
}

export interface LaunchOptions {
  readonly graph: BlockGraph;
  readonly jobs: JobRegistry;
  readonly id: string;
  readonly speedBytesPerSecond?: number | undefined;
}

/**
 * Resolves with a job that holds its place and waits for `start`. Rejects with nothing changed: `make` is called once the
 * filter stands, and a job that was made is given up.
 */
export async function launchJob<Made extends Job & DrainedWriter>(
  { graph, jobs, id, speedBytesPerSecond }: LaunchOptions,
  place: JobPlace,
  make: () => Made,
): Promise<Made> {
  let job: Made | undefined;
  try {
    validateJobId(id);
    jobs.assertIdFree(id);
    await graph.drained([place.filter.children[0]!.node], () => {
      place.insert();
      job = make();
      jobs.add(job);
      place.take(job);
      job.setSpeed(speedBytesPerSecond ?? 0);
    });
  } catch (error) {
    if (job === undefined) await place.leave();
    else await job.discard();
    throw error;
  }
  return job!;
}
