// Goal: whatever is done to a graph, in whatever order, everybody's permissions fit together afterwards, and
// what is refused has changed nothing.
// Method: random histories of all changes there are; after each, the graph is compared with rules that are
// computed from nothing, and after a refusal with how it was before.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { EngineError } from '../errors.ts';
import { MemoryNode } from '../testing/memory-node.ts';
import type { Attachment } from './attachment.ts';
import { BlockGraph } from './block-graph.ts';
import type { Edge } from './edge.ts';
import {
  type ChildPermissions,
  copyBeforeWritePermissions,
  filterPermissions,
  formatPermissions,
  PERMISSION,
  PERMISSIONS_ALL,
  totalPermissions,
} from './permissions.ts';
import { reaches } from './settle.ts';

const NAMES = ['a', 'b', 'c', 'd', 'e', 'f'];
const KINDS: Readonly<Record<string, { roles: readonly string[]; permissions: ChildPermissions }>> = {
  file: { roles: [], permissions: () => ({ uses: 0, shares: 0 }) },
  filter: { roles: ['file'], permissions: filterPermissions },
  format: { roles: ['file'], permissions: formatPermissions },
  overlay: { roles: ['file', 'backing'], permissions: formatPermissions },
  cbw: { roles: ['file', 'target'], permissions: copyBeforeWritePermissions },
};

/** Another process holds a lock: nobody here may write. */
class LockedNode extends MemoryNode {
  setPermissions({ uses }: { uses: number }): () => void {
    if ((uses & PERMISSION.write) !== 0) throw new EngineError('busy', 'Failed to get "write" lock');
    return () => {};
  }
}

type Step = (world: World) => void | Promise<void>;

interface World {
  graph: BlockGraph;
  attachments: Attachment[];
}

const name = fc.constantFrom(...NAMES);
const mask = fc.integer({ min: 0, max: PERMISSIONS_ALL });
const readOnly = fc.boolean();
const seldom = fc.integer({ min: 0, max: 9 }).map(value => value === 0);
/** Chooses among the nodes that there are. */
const place = fc.nat({ max: 59 });

function pick<Item>(items: Iterable<Item>, at: number): Item | undefined {
  const all = [...items];
  return all[at % Math.max(1, all.length)];
}

const kind = fc.constantFrom('file', 'file', 'filter', 'filter', 'format', 'overlay', 'cbw');
const adding = fc
  .record({ name, kind, places: fc.tuple(place, place), readOnly: seldom, locked: seldom })
  .map(
    (options): Step =>
      ({ graph }) => {
        const { roles, permissions } = KINDS[options.kind]!;
        const children: Record<string, string> = {};
        for (const [index, role] of roles.entries()) {
          children[role] = pick(graph.nodes, options.places[index]!)?.name ?? 'nobody';
        }
        const Driver = options.locked ? LockedNode : MemoryNode;
        graph.add({ name: options.name, children, permissions, readOnly: options.readOnly }, () => {
          return new Driver({ sizeBytes: 4096 });
        });
      },
  );
const removing = name.map(
  (which): Step =>
    ({ graph }) =>
      graph.remove(which),
);
/** Most users share what they do themselves. */
const attaching = fc.record({ place, uses: mask, excludes: mask, alone: seldom }).map(
  (options): Step =>
    world => {
      const { uses, excludes, alone } = options;
      const shares = alone ? PERMISSIONS_ALL & ~excludes : PERMISSIONS_ALL & ~(excludes & PERMISSION.resize);
      const node = pick(world.graph.nodes, options.place);
      if (node !== undefined)
        world.attachments.push(world.graph.attach(node.name, { user: 'a user', uses, shares }));
    },
);
const detaching = fc.nat({ max: 5 }).map(
  (index): Step =>
    async ({ attachments }) => {
      await attachments.splice(index, 1)[0]?.close();
    },
);
const inserting = place.map(
  (at): Step =>
    ({ graph }) => {
      const candidates = [...graph.nodes].filter(node => !node.inserted && node.children[0]?.role === 'file');
      const filter = pick(candidates, at);
      if (filter !== undefined) graph.insertAbove(filter.children[0]!.node, filter);
    },
);
const bypassing = place.map(
  (at): Step =>
    ({ graph }) => {
      const filter = pick(
        [...graph.nodes].filter(node => node.inserted),
        at,
      );
      if (filter !== undefined) graph.bypass(filter);
    },
);
const changing = fc
  .record({ places: fc.tuple(place, place), readOnly: fc.option(readOnly), fails: seldom })
  .map(
    (options): Step =>
      async ({ graph }) => {
        const parents = [...graph.nodes].filter(node => node.children.length > 0 && !node.inserted);
        const parent = pick(parents, options.places[0]);
        if (parent === undefined) return;
        const { role } = parent.children.at(-1)!;
        const child = pick(graph.nodes, options.places[1]);
        await graph.change([parent], {
          begin: async () => {},
          apply(change) {
            if (options.readOnly !== null) change.setReadOnly(parent, options.readOnly);
            change.setChild(parent, role, child);
          },
          async prepare() {
            if (options.fails) throw new EngineError('io', 'the driver cannot be opened again');
          },
          commit: () => {},
        });
      },
  );

function edgesOf(graph: BlockGraph): Edge[] {
  return [...graph.nodes].flatMap(node => [...node.parents]);
}

function portrait(graph: BlockGraph): unknown {
  return [...graph.nodes].map(node => ({
    name: node.name,
    readOnly: node.readOnly,
    inserted: node.inserted,
    children: node.children.map(edge => [edge.role, edge.node.name, edge.uses, edge.shares]),
    // By user: the order in which a way back puts them in does not matter to anybody.
    parents: [...node.parents].map(edge => `${edge.user} ${edge.uses} ${edge.shares}`).sort(),
  }));
}

function checkRules(graph: BlockGraph): void {
  const nodes = [...graph.nodes];
  for (const node of nodes) {
    for (const edge of node.children) {
      expect(graph.find(edge.node.name)).toBe(edge.node);
      expect(edge.node.parents.has(edge)).toBe(true);
      expect(reaches(edge.node, node), 'a cycle').toBe(false);
      const state = {
        inserted: node.inserted,
        used: node.inserted || node.parents.size > 0,
        writable: node.writable,
      };
      const due = node.childPermissions(edge.role, totalPermissions(node.parents), state);
      expect({ uses: edge.uses, shares: edge.shares }).toEqual(due);
    }
    const parents = [...node.parents];
    for (const edge of parents) {
      expect(edge.node).toBe(node);
      for (const other of parents) if (other !== edge) expect(edge.uses & ~other.shares).toBe(0);
    }
    const total = totalPermissions(parents);
    if (!node.writable) expect(total.uses & (PERMISSION.write | PERMISSION.writeUnchanged)).toBe(0);
  }
  expect(edgesOf(graph).every(edge => edge.parent === undefined || nodes.includes(edge.parent))).toBe(true);
}

test('permissions fit together after any history, and a refusal changes nothing', {
  timeout: 60_000,
}, async () => {
  const step = fc.oneof(adding, adding, removing, attaching, detaching, inserting, bypassing, changing);
  let refused = 0;
  let done = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 120 }), async steps => {
      const world: World = { graph: new BlockGraph(), attachments: [] };
      for (const run of steps) {
        const before = portrait(world.graph);
        try {
          await run(world);
          done++;
        } catch (error) {
          if (!(error instanceof EngineError)) throw error;
          refused++;
          expect(portrait(world.graph), error.message).toEqual(before);
        }
        checkRules(world.graph);
      }
    }),
    { numRuns: 400 },
  );
  // Neither a graph that refuses everything nor one that lets everything pass would show anything.
  expect(refused).toBeGreaterThan(1000);
  expect(done).toBeGreaterThan(3000);
});
