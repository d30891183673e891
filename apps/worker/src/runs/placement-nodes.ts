// The storage nodes that volumes may go to.
import type { StorageNode } from '@tidemark/catalog';
import { parseSelector } from '@tidemark/proto';
import type { RunContext } from './run-definition.ts';

export async function nodesToChooseFrom(
  { catalog }: RunContext,
  { selector, without }: { selector: string; without: string },
): Promise<StorageNode[]> {
  const nodes: StorageNode[] = [];
  let cursor: string | null = null;
  do {
    const page: Awaited<ReturnType<typeof catalog.storageNodes.list>> = await catalog.storageNodes.list({
      ...{ selector: parseSelector(selector), cursor },
    });
    nodes.push(...page.items.filter(({ id }) => id !== without));
    cursor = page.nextCursor;
  } while (cursor !== null);
  return nodes;
}
