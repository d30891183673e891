// What a job on a chain takes hold of in the block graph: the place of its filter, its uses of block nodes, and the
// word that nobody else may have them. All of it is given back at once.
import type { Attachment } from '../graph/attachment.ts';
import type { BlockGraph } from '../graph/block-graph.ts';
import type { Edge } from '../graph/edge.ts';
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
  /** What the filter is to stand above. */
  readonly below: GraphNode;
  /** Adds the filter to the graph. */
  makeFilter(): GraphNode;
  /** In this order. */
  uses(filter: GraphNode): readonly JobUse[];
  /** Block nodes that are neither removed nor resized nor given to another job. */
  blocked(filter: GraphNode): readonly GraphNode[];
  /** Links that nobody changes. */
  frozen(filter: GraphNode): readonly Edge[];
  /** What the job writes to. */
  readonly written: GraphNode;
}

export class JobPlace {
  readonly below: GraphNode;
  readonly #options: JobPlaceOptions;
  readonly #attachments: Attachment[] = [];
  #blocker: string | undefined;
  #blocked: readonly GraphNode[] = [];
  #frozen: readonly Edge[] = [];
  #job: DrainedWriter | undefined;
  #filter: GraphNode | undefined;

  constructor(options: JobPlaceOptions) {
    this.#options = options;
    this.below = options.below;
  }

  /** Once it is there. */
  get filter(): GraphNode {
    return this.#filter!;
  }

  /** Throws where the graph does not take the filter. */
  addFilter(): void {
    this.#filter = this.#options.makeFilter();
  }

  /** Under drain. Throws kind `conflict` where somebody cannot live with the filter. */
  insert(): void {
    this.#options.graph.insertAbove(this.below, this.filter);
  }

  /** Under drain. Throws kind `conflict`; what was taken by then is to be given back. */
  take(job: Job & DrainedWriter): void {
    const { graph, uses, blocked, written } = this.#options;
    this.#job = job;
    this.#blocker = `block job: ${job.type}`;
    this.#blocked = blocked(this.filter);
    for (const node of this.#blocked) node.blockers.add(this.#blocker);
    this.#frozen = this.#options.frozen(this.filter);
    for (const edge of this.#frozen) edge.frozen++;
    this.filter.readers.add(job);
    written.writers.add(job);
    for (const { node, ...use } of uses(this.filter)) {
      this.#attachments.push(graph.attach(node.name, { ...use, atOnce: true }));
    }
  }

  /** Lets others do what the job's uses exclude, for when they come in the job's stead. */
  loosen(): void {
    this.#thaw();
    for (const attachment of this.#attachments) this.#options.graph.loosen(attachment);
  }

  #thaw(): void {
    for (const edge of this.#frozen) edge.frozen--;
    this.#frozen = [];
  }

  /** Gives back everything; the filter is gone. */
  async leave(): Promise<void> {
    const { graph, written } = this.#options;
    this.#thaw();
    for (const attachment of this.#attachments.splice(0)) await attachment.close();
    for (const node of this.#blocked) node.blockers.delete(this.#blocker!);
    if (this.#job !== undefined) written.writers.delete(this.#job);
    const filter = this.#filter;
    if (filter === undefined) return;
    await graph.drained([filter], () => {
      if (filter.inserted) graph.bypass(filter);
    });
    await graph.remove(filter.name);
  }
}

export interface LaunchOptions {
  readonly graph: BlockGraph;
  readonly jobs: JobRegistry;
  readonly id: string;
  readonly speedBytesPerSecond?: number | undefined;
  /** The job is told of before the filter is looked at; default: the other way round. */
  readonly jobFirst?: boolean;
}

/**
 * Resolves with a job that holds its place and waits for `start`. Rejects with nothing changed; a job that was made is
 * given up.
 */
export async function launchJob<Made extends Job & DrainedWriter>(
  { graph, jobs, id, speedBytesPerSecond, jobFirst = false }: LaunchOptions,
  place: JobPlace,
  make: () => Made,
): Promise<Made> {
  let job: Made | undefined;
  try {
    if (!jobFirst) place.addFilter();
    validateJobId(id);
    jobs.assertIdFree(id);
    await graph.drained([place.below], () => {
      if (!jobFirst) place.insert();
      job = make();
      jobs.add(job);
      if (jobFirst) {
        place.addFilter();
        place.insert();
      }
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
