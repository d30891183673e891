// Where a volume goes when nobody has named a storage node.
import type { StorageNode } from './storage-node-repository.ts';

/** What has been sent to a storage node and does not show in what it says of its space yet, by its id. */
export type Promised = ReadonlyMap<string, number>;

/** The one with the most room left, where that is enough; null: there is none. */
export function chooseRoomiest(
  nodes: readonly StorageNode[],
  neededBytes: number,
  promised: Promised = new Map(),
): StorageNode | null {
  const room = (node: StorageNode) => (node.availableBytes ?? 0) - (promised.get(node.id) ?? 0);
  const open = nodes.filter(node => node.state === 'online' && node.cordonedAt === null);
  const [best] = open.sort((a, b) => room(b) - room(a));
  return best !== undefined && room(best) >= neededBytes ? best : null;
}
