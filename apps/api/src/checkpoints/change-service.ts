// What changed between two checkpoints, or from one until now: asked of the storage node at the moment of the call.
import { type Catalog, findCheckpoint, requireReady, type Volume } from '@tidemark/catalog';
import { type ChangedBlocks, type ChangedBlocksRequest, TidemarkError } from '@tidemark/proto';
import { LIVE_ANSWER_MAX_MS } from '../limits.ts';
import type { LiveFacts } from '../live/live-facts.ts';
import type {
  ChangedBlocksJson,
  ChangedBlocksQuery,
  ChangedBytesQuery,
  Extent,
} from '../schemas/checkpoint.ts';

interface Question {
  readonly volume: Volume;
  readonly request: Pick<ChangedBlocksRequest, 'volumeId' | 'sinceCheckpointId' | 'untilCheckpointId'>;
}

export class ChangeService {
  readonly #catalog: Catalog;
  readonly #facts: LiveFacts;

  constructor(catalog: Catalog, facts: LiveFacts) {
    this.#catalog = catalog;
    this.#facts = facts;
  }

  async count(volumeRef: string, query: ChangedBytesQuery) {
    const { volume, request } = await this.#question(volumeRef, query);
    return this.#facts.require(volume.storageNodeId, (clients, options) =>
      clients.checkpoints.countChangedBytes(request, options),
    );
  }

  /** One page; without `until`, each page shows its own moment. */
  async page(volumeRef: string, query: ChangedBlocksQuery): Promise<ChangedBlocksJson> {
    const question = await this.#question(volumeRef, query);
    const extents: Extent[] = [];
    let granularityBytes = 0;
    let nextOffset = 0;
    for await (const part of this.#parts(question, query.offset, AbortSignal.timeout(LIVE_ANSWER_MAX_MS))) {
      granularityBytes = part.granularityBytes;
      extents.push(...part.ranges.slice(0, query.limit - extents.length));
      nextOffset = part.nextOffset;
      if (extents.length === query.limit) break;
    }
    const last = extents.at(-1);
    if (last !== undefined && extents.length === query.limit) nextOffset = last.offset + last.length;
    const isEnd = nextOffset >= question.volume.sizeBytes;
    return { granularityBytes, extents, nextOffset: isEnd ? null : nextOffset };
  }

  /**
   * All of them, as lines of JSON, all of one moment: text for each part of the storage node's answer, which waits
   * for its reader. Rejects before the first line is given, as `page` does; what breaks later breaks the text off.
   */
  async lines(
    volumeRef: string,
    query: ChangedBlocksQuery,
    signal: AbortSignal,
  ): Promise<AsyncIterable<string>> {
    const question = await this.#question(volumeRef, query);
    const parts = this.#parts(question, query.offset, signal)[Symbol.asyncIterator]();
    return linesOf(await parts.next(), parts);
  }

  async *#parts(
    { volume, request }: Question,
    offset: number,
    signal: AbortSignal,
  ): AsyncGenerator<ChangedBlocks> {
    const clients = await this.#facts.clients(volume.storageNodeId);
    const ending = AbortSignal.any([signal, this.#facts.stopping]);
    try {
      yield* clients.listChangedBlocks({ ...request, offset }, { signal: ending });
    } catch (error) {
      if (!signal.aborted) throw error;
      const text = `Storage node '${volume.storageNode}' did not answer in time. Try again, or ask for a smaller page.`;
      throw new TidemarkError('storage-node-unreachable', text, error);
    }
  }

  async #question(volumeRef: string, { since, until }: ChangedBytesQuery): Promise<Question> {
    const volume = await this.#catalog.volumes.get(volumeRef);
    const ids: string[] = [];
    for (const ref of until === undefined ? [since] : [since, until]) {
      const checkpoint = await findCheckpoint(this.#catalog, volume, ref);
      requireReady(volume, checkpoint);
      ids.push(checkpoint.id);
    }
    const [sinceCheckpointId = '', untilCheckpointId = ''] = ids;
    return { volume, request: { volumeId: volume.id, sinceCheckpointId, untilCheckpointId } };
  }
}

const line = (value: object): string => `${JSON.stringify(value)}\n`;

async function* linesOf(
  first: IteratorResult<ChangedBlocks>,
  parts: AsyncIterator<ChangedBlocks>,
): AsyncGenerator<string> {
  let count = 0;
  let granularityBytes = 0;
  try {
    for (let next = first; !next.done; next = await parts.next()) {
      const { ranges } = next.value;
      granularityBytes = next.value.granularityBytes;
      count += ranges.length;
      if (ranges.length > 0) yield ranges.map(line).join('');
    }
    yield line({ end: true, granularityBytes, extents: count });
  } finally {
    await parts.return?.();
  }
}
