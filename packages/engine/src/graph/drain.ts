// One time of rest for some block nodes: nobody above them has a request on the way, and whoever comes meanwhile
// waits. Made by BlockGraph alone.
import type { Attachment } from './attachment.ts';
import type { DrainedWriter, GraphNode } from './graph-node.ts';
import { reaches } from './settle.ts';

/** Who uses the graph above some nodes, looked at anew by each `join`: more may come while a drain waits. */
export interface DrainedUsers {
  /** Block nodes that have been opened. */
  readonly nodes: readonly GraphNode[];
  readonly attachments: readonly Attachment[];
  readonly writers: readonly DrainedWriter[];
}

export class Drain {
  readonly #roots: readonly GraphNode[];
  readonly #nodes = new Set<GraphNode>();
  readonly #attachments = new Set<Attachment>();
  readonly #writers = new Set<DrainedWriter>();
  #resting: Promise<void>[] = [];

  constructor(roots: readonly GraphNode[]) {
    this.#roots = roots;
  }

  /** Bids all to rest whom it has not asked yet; false when there was nobody. */
  join({ nodes, attachments, writers }: DrainedUsers): boolean {
    // Before the rest: what they hold back could be what an attachment waits for.
    for (const node of nodes) {
      if (this.#nodes.has(node)) continue;
      this.#nodes.add(node);
      node.drainBegin();
    }
    for (const attachment of attachments) this.#close(attachment);
    for (const writer of writers) {
      if (this.#writers.has(writer)) continue;
      this.#writers.add(writer);
      this.#resting.push(writer.quiesce());
    }
    return this.#resting.length > 0;
  }

  /** Resolves when all who were asked have nothing on the way. */
  async rested(): Promise<void> {
    await Promise.all(this.#resting.splice(0));
  }

  /** A newcomer starts with its gate closed, if it stands above. */
  admit(attachment: Attachment): void {
    if (this.#roots.some(root => reaches(attachment.edge.node, root))) this.#close(attachment);
  }

  end(): void {
    for (const node of this.#nodes) node.drainEnd();
    for (const attachment of this.#attachments) attachment.resume();
    for (const writer of this.#writers) writer.unquiesce();
  }

  #close(attachment: Attachment): void {
    if (this.#attachments.has(attachment)) return;
    this.#attachments.add(attachment);
    this.#resting.push(attachment.quiesce());
  }
}
