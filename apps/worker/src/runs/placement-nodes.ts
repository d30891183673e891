// The storage nodes that volumes may go to.
import { pagesOf, type StorageNode } from '@tidemark/catalog';
import { parseSelector } from '@tidemark/proto';
import type { RunContext } from './run-definition.ts';

export async function nodesToChooseFrom(
  { catalog }: RunContext,
  { selector, without }: { selector: string; without: string },
): Promise<StorageNode[]> {
  const nodes: StorageNode[] = [];
  const chosen = parseSelector(selector);
  for await (const some of pagesOf(page => catalog.storageNodes.list({ ...page, selector: chosen }))) {
    nodes.push(...some.filter(({ id }) => id !== without));
  }
  return nodes;
}

/** Why none of these, which were chosen by `selector`, takes a volume. */
export function whyNowhere(nodes: readonly StorageNode[], selector: string): string {
  if (nodes.length === 0) {
    return selector === ''
      ? 'there is no other storage node'
      : `no other storage node has labels like '${selector}'`;
  }
  if (nodes.some(({ state, cordonedAt }) => state === 'online' && cordonedAt === null)) {
    return 'no storage node that may be chosen has room for it';
  }
  return 'every storage node that may be chosen is away or cordoned';
}
