// Differences between storage nodes and catalog: comparing, listing, and repairs that somebody decided on.
import type { Catalog, Difference, StorageNode } from '@tidemark/catalog';
import { type RunRequest, TidemarkError } from '@tidemark/proto';
import type { z } from 'zod';
import { iso, isoOrNull } from '../moments.ts';
import type { StartedRun } from '../runs/run-json.ts';
import type { RunStarter } from '../runs/run-starter.ts';
import type { DifferenceJson, differenceQuery } from '../schemas/difference.ts';
import type { RunJson } from '../schemas/run.ts';
import { requireOnline } from '../storage-nodes/storage-node-service.ts';

function toDifferenceJson(difference: Difference): DifferenceJson {
  const { firstSeenAt, lastSeenAt, endedAt, data, ...facts } = difference;
  const { actions, failure, ...rest } = data;
  return {
    ...facts,
    actions: actionsOf(difference),
    failure: typeof failure === 'string' ? failure : null,
    data: rest,
    firstSeenAt: iso(firstSeenAt),
    lastSeenAt: iso(lastSeenAt),
    endedAt: isoOrNull(endedAt),
  };
}

function actionsOf({ data }: Difference): string[] {
  return Array.isArray(data.actions) ? data.actions.map(String) : [];
}

export class DifferenceService {
  readonly #catalog: Catalog;
  readonly #runs: RunStarter;

  constructor(catalog: Catalog, runs: RunStarter) {
    this.#catalog = catalog;
    this.#runs = runs;
  }

  /** One run for each storage node; one that was named has to answer, of all only those that do are compared. */
  async reconcile(ref: string | undefined): Promise<{ runs: RunJson[]; skipped: string[] }> {
    const nodes = ref === undefined ? await this.#allNodes() : [await this.#catalog.storageNodes.get(ref)];
    if (ref !== undefined) requireOnline(nodes[0]!);
    const runs: RunJson[] = [];
    for (const { id, state } of nodes) if (state === 'online') runs.push((await this.#compare(id)).run);
    return { runs, skipped: nodes.filter(({ state }) => state !== 'online').map(({ name }) => name) };
  }

  /** Seen first comes first. */
  async list({ state, storageNode, ...page }: z.output<typeof differenceQuery>) {
    const storageNodeId =
      storageNode === undefined ? undefined : (await this.#catalog.storageNodes.get(storageNode)).id;
    const { items, nextCursor } = await this.#catalog.differences.list({ ...page, state, storageNodeId });
    return { items: items.map(toDifferenceJson), nextCursor };
  }

  async get(id: string): Promise<DifferenceJson> {
    return toDifferenceJson(await this.#catalog.differences.get(id));
  }

  repair(id: string, action: string): Promise<StartedRun<{ difference: DifferenceJson }>> {
    return this.#runs.start(async (catalog, runId) => {
      const difference = await catalog.differences.get(id);
      const { state, kind, storageNodeId } = difference;
      if (state !== 'open' || storageNodeId === null) throw notOpen(difference);
      const actions = actionsOf(difference);
      if (!actions.includes(action)) {
        const choice = actions.length > 0 ? `Choose one of: ${actions.join(', ')}.` : difference.message;
        const text = `'${action}' does not repair a difference ${kind}. ${choice}`;
        throw new TidemarkError('invalid-request', text);
      }
      requireOnline(await catalog.storageNodes.get(storageNodeId));
      const request: RunRequest<'repair-difference'> = { differenceId: id, storageNodeId, action };
      const run = await catalog.runs.create({
        id: runId,
        kind: 'repair-difference',
        storageNodeId,
        request,
      });
      return { run, difference: toDifferenceJson(difference) };
    });
  }

  #compare(storageNodeId: string): Promise<StartedRun<object>> {
    return this.#runs.start(async (catalog, id) => {
      const request: RunRequest<'reconcile'> = { storageNodeId, cause: 'asked', startedAtMs: null };
      return { run: await catalog.runs.create({ id, kind: 'reconcile', storageNodeId, request }) };
    });
  }

  async #allNodes(): Promise<StorageNode[]> {
    const nodes: StorageNode[] = [];
    let cursor: string | null = null;
    do {
      const page: Awaited<ReturnType<Catalog['storageNodes']['list']>> =
        await this.#catalog.storageNodes.list({ cursor });
      nodes.push(...page.items);
      cursor = page.nextCursor;
    } while (cursor !== null);
    return nodes;
  }
}

function notOpen({ id, kind, state }: Difference): TidemarkError {
  return new TidemarkError(
    'difference-not-found',
    `Difference ${id} (${kind}) is ${state}: there is nothing left to repair. Compare again to see ` +
      '(POST /v1/reconcile).',
  );
}
