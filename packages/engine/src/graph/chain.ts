// Chains of images: which block node lies below which, with the filters between them.
import type { Edge } from './edge.ts';
import type { GraphNode } from './graph-node.ts';

/** Drivers that change nothing of what they show, and the role of what they show. */
export const FILTER_ROLES: Readonly<Record<string, string>> = {
  anchor: 'file',
  blkdebug: 'image',
  commit_top: 'file',
  compress: 'file',
  'copy-before-write': 'file',
  'copy-on-read': 'file',
  mirror_top: 'file',
  throttle: 'file',
};

export function childOf(node: GraphNode, role: string): GraphNode | undefined {
  return node.children.find(edge => edge.role === role)?.node;
}

export function isFilter(node: GraphNode): boolean {
  return FILTER_ROLES[node.driver] !== undefined;
}

const JOB_FILTERS = new Set(['commit_top', 'copy-on-read', 'mirror_top']);

/** The filter of a job on a chain. */
export function isJobFilter({ owner, driver }: GraphNode): boolean {
  return owner === 'job' && JOB_FILTERS.has(driver);
}

/** One that nobody has named: it is not told of. */
export function isImplicit(node: GraphNode): boolean {
  return isJobFilter(node) && node.name.startsWith('#');
}

/** What a filter shows, or the backing image. */
export function belowOf(node: GraphNode): GraphNode | undefined {
  return childOf(node, FILTER_ROLES[node.driver] ?? 'backing');
}

/** The node and all below it, filters among them. */
export function chainFrom(node: GraphNode): GraphNode[] {
  const chain: GraphNode[] = [];
  for (let at: GraphNode | undefined = node; at !== undefined; at = belowOf(at)) chain.push(at);
  return chain;
}

/** The links of the chain from the node down to `end`. */
export function linksDownTo(node: GraphNode, end: GraphNode): Edge[] {
  const chain = chainFrom(node);
  const above = chain.slice(0, chain.indexOf(end));
  return above.flatMap((at, index) => at.children.filter(edge => edge.node === (above[index + 1] ?? end)));
}

/** The first that is no filter, from the node on downwards. */
export function withoutFilters(node: GraphNode): GraphNode {
  let at = node;
  while (isFilter(at)) {
    const below = belowOf(at);
    if (below === undefined) return at;
    at = below;
  }
  return at;
}

/** How many images, filters not counted, lie from `top` on above `base`: an extent of a depth up to it is theirs. */
export function imagesAbove(top: GraphNode, base: GraphNode | undefined): number {
  if (base === undefined) return Infinity;
  const chain = chainFrom(top);
  const end = chain.indexOf(base);
  return chain.slice(0, end).filter(node => !isFilter(node)).length;
}
