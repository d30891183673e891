// Looks at a storage node and at what the catalog says of it, twice: what is seen once may be something that was
// just being made.
import { setTimeout as sleep } from 'node:timers/promises';
import { type Catalog, type Inventory, isId, type RunFact } from '@tidemark/catalog';
import type { StorageNodeClients } from '@tidemark/proto';
import type { WorkerLimits } from '../limits.ts';
import { compare } from './compare.ts';
import { type FoundDifference, keyOf } from './found-difference.ts';
import { questionableIds } from './ids.ts';
import { lookAtStorageNode, type NodeView } from './node-view.ts';

export interface Look {
  /** Id of the newest event before it. */
  readonly lookedAfter: number;
  readonly catalog: Inventory;
  readonly node: NodeView;
  readonly runs: readonly RunFact[];
  readonly found: readonly FoundDifference[];
}

export interface Lookout {
  readonly catalog: Catalog;
  readonly clients: StorageNodeClients;
  readonly storageNodeId: string;
  readonly limits: Pick<WorkerLimits, 'confirmMs' | 'stuckMs'>;
  readonly signal: AbortSignal;
}

export async function lookOnce(lookout: Lookout): Promise<Look> {
  const { clients, storageNodeId, limits, signal } = lookout;
  const lookedAfter = await lookout.catalog.events.newestId();
  const node = await lookAtStorageNode(clients, { signal });
  const catalog = await lookout.catalog.inventory.ofStorageNode(storageNodeId);
  const runs = await lookout.catalog.inventory.runsAbout(questionableIds(node, catalog));
  const groups = await lookout.catalog.groups.listByIds(
    node.groups.map(({ groupId }) => groupId).filter(isId),
  );
  const nowMs = Date.now();
  const found = compare({ storageNodeId, catalog, node, groups, runs, nowMs, stuckMs: limits.stuckMs });
  return { lookedAfter, catalog, node, runs, found };
}

/** The second look, with what both have seen. */
export async function lookTwice(lookout: Lookout): Promise<Look> {
  const first = await lookOnce(lookout);
  if (first.found.length === 0) return first;
  await sleep(lookout.limits.confirmMs, undefined, { signal: lookout.signal });
  const second = await lookOnce(lookout);
  const before = new Set(first.found.map(keyOf));
  return { ...second, found: second.found.filter(one => before.has(keyOf(one))) };
}
