// Lets all users of a block node stand still from one step of a job to a later one, over any wait in between.
import type { BlockGraph } from '../graph/block-graph.ts';
import type { GraphNode } from '../graph/graph-node.ts';

export class StandStill {
  readonly #graph: BlockGraph;
  readonly #node: GraphNode;
  #held: { release(): void; drained: Promise<void> } | undefined;

  constructor(graph: BlockGraph, node: GraphNode) {
    this.#graph = graph;
    this.#node = node;
  }

  get holds(): boolean {
    return this.#held !== undefined;
  }

  /** Resolves when nothing is in flight at the node; new requests wait from here on. */
  async begin(): Promise<void> {
    const begun = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    const drained = this.#graph.drained([this.#node], () => {
      begun.resolve();
      return release.promise;
    });
    this.#held = { release: release.resolve, drained };
    await begun.promise;
  }

  /** Good to repeat. */
  async end(): Promise<void> {
    const held = this.#held;
    this.#held = undefined;
    held?.release();
    await held?.drained;
  }
}
