// How callers say which image of a chain they mean: by the block node's name or by the image's file name.
import { EngineError } from '../errors.ts';
import type { BlockGraph } from '../graph/block-graph.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import type { ChainAccess } from './chain-access.ts';

export type ChainPlace =
  | { readonly node: string; readonly name?: undefined }
  /** A file name. */
  | { readonly name: string; readonly node?: undefined };

/**
 * Finds the image in the chain, for a file name from index `from` on. Throws kind `not-found`: with `missing` in its
 * words where it is a file name.
 */
export function findBelow(
  graph: BlockGraph,
  access: ChainAccess,
  chain: readonly GraphNode[],
  place: ChainPlace,
  missing: (name: string) => string = name => `Can't find '${name}' in the backing chain`,
  from = 0,
): GraphNode {
  if (place.node !== undefined) return findNode(graph, chain, place.node);
  const { name } = place;
  const index = chain.findIndex((node, at) => at >= from && access.isCalled(node, name, chain[at - 1]));
  if (index >= 0) return chain[index]!;
  throw new EngineError('not-found', missing(name), {
    hint: 'Look at the file names of the images of the chain.',
  });
}

function findNode(graph: BlockGraph, chain: readonly GraphNode[], name: string): GraphNode {
  const node = findByNodeName(graph, name);
  if (chain.includes(node)) return node;
  throw new EngineError('not-found', `'${name}' is not in this backing file chain`, { node: name });
}

/** Throws as QEMU does where a node name was asked for and no device. */
export function findByNodeName(graph: BlockGraph, name: string): GraphNode {
  const node = graph.find(name);
  if (node !== undefined) return node;
  const hint = 'Look at the names of the block nodes there are.';
  throw new EngineError('not-found', `Cannot find device='' nor node-name='${name}'`, { node: name, hint });
}
