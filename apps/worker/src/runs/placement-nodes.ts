// The storage nodes that volumes may go to.
import type { StorageNode } from '@tidemark/catalog';
import { parseSelector } from '@tidemark/proto';
import { pagesOf } from '../look-at-each.ts';
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
