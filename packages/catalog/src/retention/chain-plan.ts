// In which order backups leave their chains, and which have to wait. A backup without children goes at once; one
// with a single child is merged into it; one with several stays, hidden, until only one is left.

/** A backup of a repository, of whatever volume and state. */
export interface ChainLink {
  id: string;
  parentId: string | null;
  /** Null: not known yet. */
  pointInTime: Date | null;
  storedBytes: number | null;
  /** It is to leave its chain. */
  goes: boolean;
  /** Who reads it or builds on it, in words. */
  holders: readonly string[];
}

export interface Removal {
  id: string;
  /** The child that it is merged into; null: it has none. */
  into: string | null;
  /** What comes back, at most: of a merge only what the child has anew. */
  freedBytesMax: number;
}

export interface ChainPlan {
  /** One after the other; a merge comes after those of what lies below it. */
  removals: Removal[];
  /** Backups that cannot go yet, with why, in words. */
  waits: Map<string, string>;
}

interface Node extends ChainLink {
  children: Set<string>;
}

/** Without the clock and without I/O: what happens when every removal succeeds. */
export function planChain(links: readonly ChainLink[]): ChainPlan {
  const nodes = new Map<string, Node>(links.map(link => [link.id, { ...link, children: new Set() }]));
  for (const node of nodes.values()) nodes.get(node.parentId ?? '')?.children.add(node.id);
  const removals: Removal[] = [];
  const lowestFirst = [...nodes.values()].filter(({ goes }) => goes).sort(byPlace(nodes));
  // Leaves first: they cost nothing, give room, and leave those below with fewer children.
  for (const node of lowestFirst.toReversed()) {
    if (node.children.size > 0 || node.holders.length > 0) continue;
    removals.push({ id: node.id, into: null, freedBytesMax: node.storedBytes ?? 0 });
    take(nodes, node);
  }
  // From the lowest on each increment is copied once only.
  for (const node of lowestFirst) {
    if (!nodes.has(node.id) || whyItWaits(nodes, node) !== null) continue;
    const child = nodes.get([...node.children][0]!)!;
    const freedBytesMax = Math.min(node.storedBytes ?? 0, child.storedBytes ?? 0);
    removals.push({ id: node.id, into: child.id, freedBytesMax });
    take(nodes, node);
  }
  const waits = new Map<string, string>();
  for (const node of lowestFirst) {
    if (nodes.has(node.id)) waits.set(node.id, whyItWaits(nodes, node)!);
  }
  return { removals, waits };
}

/** By the number of backups below each, then by age: what clocks say decides nothing about chains. */
function byPlace(nodes: ReadonlyMap<string, Node>): (a: ChainLink, b: ChainLink) => number {
  const depths = new Map<string, number>();
  for (const { id } of nodes.values()) {
    const path: string[] = [];
    for (let at = nodes.get(id); at !== undefined && !depths.has(at.id); at = nodes.get(at.parentId ?? '')) {
      path.push(at.id);
    }
    for (const next of path.toReversed()) {
      depths.set(next, (depths.get(nodes.get(next)!.parentId ?? '') ?? 0) + 1);
    }
  }
  const ageMs = ({ pointInTime }: ChainLink) => pointInTime?.getTime() ?? 0;
  return (a, b) => depths.get(a.id)! - depths.get(b.id)! || ageMs(a) - ageMs(b) || (a.id < b.id ? -1 : 1);
}

function whyItWaits(nodes: ReadonlyMap<string, Node>, { id, children, holders }: Node): string | null {
  if (holders.length > 0) return `in use by ${holders[0]}`;
  if (children.size > 1) return `parent of ${[...children].sort().join(' and ')}: stays hidden`;
  const [childId = id] = children;
  const holder = nodes.get(childId)!.holders[0];
  return holder === undefined ? null : `parent of ${childId}, which is in use by ${holder}: stays hidden`;
}

/** The children go to the parent. */
function take(nodes: Map<string, Node>, { id, parentId, children }: Node): void {
  nodes.delete(id);
  const parent = nodes.get(parentId ?? '');
  parent?.children.delete(id);
  for (const childId of children) {
    nodes.get(childId)!.parentId = parentId;
    parent?.children.add(childId);
  }
}
