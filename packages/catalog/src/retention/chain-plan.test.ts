// Goal: backups leave their chains in an order in which each removal is possible when its turn comes, nothing that
// stays loses what it stands on, and what cannot go says why. Method: random trees, removals played on a model that
// refuses what a repository refuses.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type ChainLink, planChain } from './chain-plan.ts';

const link = (id: string, parentId: string | null, more: Partial<ChainLink> = {}): ChainLink => ({
  id,
  parentId,
  pointInTime: new Date(Number(id.slice(1)) * 1000),
  storedBytes: 100,
  goes: false,
  holders: [],
  ...more,
});
const goes = { goes: true };
const plain = (links: ChainLink[]) => {
  const { removals, waits } = planChain(links);
  return {
    removals: removals.map(({ id, into }) => `${id}>${into ?? ''}`),
    waits: Object.fromEntries(waits),
  };
};

test('of a chain the oldest go first, each into what follows it', () => {
  const chain = [
    link('b1', null, goes),
    link('b2', 'b1', goes),
    link('b3', 'b2'),
    link('b4', 'b3', goes),
    link('b5', 'b4'),
  ];
  expect(plain(chain)).toEqual({ removals: ['b1>b2', 'b2>b3', 'b4>b5'], waits: {} });
});

test('what nobody stands on goes before all else, the newest first', () => {
  const chain = [link('b1', null, goes), link('b2', 'b1'), link('b3', 'b2', goes), link('b4', 'b3', goes)];
  expect(plain(chain)).toEqual({ removals: ['b4>', 'b3>', 'b1>b2'], waits: {} });
});

test('a parent of several stays hidden until one is left', () => {
  const tree = [link('b1', null, goes), link('b2', 'b1'), link('b3', 'b1')];
  expect(plain(tree)).toEqual({ removals: [], waits: { b1: 'parent of b2 and b3: stays hidden' } });
  expect(plain([...tree.slice(0, 2), link('b3', 'b1', goes)])).toEqual({
    removals: ['b3>', 'b1>b2'],
    waits: {},
  });
});

test('what is in use stays, and so does what it stands on', () => {
  const holders = ['restore run r'];
  const chain = [
    link('b1', null, goes),
    link('b2', 'b1', { holders }),
    link('b3', 'b2', { ...goes, holders }),
  ];
  expect(plain(chain)).toEqual({
    removals: [],
    waits: {
      b1: 'parent of b2, which is in use by restore run r: stays hidden',
      b3: 'in use by restore run r',
    },
  });
});

test('space is told as a bound from above', () => {
  const chain = [
    link('b1', null, { ...goes, storedBytes: 1000 }),
    link('b2', 'b1', { storedBytes: 30 }),
    link('b3', 'b2', { ...goes, storedBytes: 7 }),
  ];
  expect(planChain(chain).removals.map(({ freedBytesMax }) => freedBytesMax)).toEqual([7, 30]);
});

const trees = fc
  .array(
    fc.record({
      parent: fc.nat(),
      root: fc.integer({ min: 0, max: 9 }),
      goes: fc.boolean(),
      held: fc.integer({ min: 0, max: 12 }),
      // A tree is older than its branches, but clocks are wrong at times.
      time: fc.integer({ min: 0, max: 30 }),
    }),
    { maxLength: 30 },
  )
  .map(list =>
    list.map(({ parent, root, goes, held, time }, index) =>
      link(`b${index}`, index === 0 || root === 0 ? null : `b${parent % index}`, {
        goes,
        pointInTime: new Date(time),
        holders: held === 0 ? ['x'] : [],
      }),
    ),
  );

test('every removal is possible when it comes, and all that could go has gone', () => {
  fc.assert(
    fc.property(trees, links => {
      const { removals, waits } = planChain(links);
      const left = new Map(links.map(item => [item.id, { ...item }]));
      const childrenOf = (id: string) => [...left.values()].filter(item => item.parentId === id);
      const mayGo = ({ id, goes, holders }: ChainLink) => {
        const children = childrenOf(id);
        return (
          goes && holders.length === 0 && children.length <= 1 && children.every(c => c.holders.length === 0)
        );
      };
      for (const { id, into } of removals) {
        const item = left.get(id)!;
        expect(mayGo(item)).toBe(true);
        expect(childrenOf(id).map(child => child.id)).toEqual(into === null ? [] : [into]);
        for (const child of childrenOf(id)) child.parentId = item.parentId;
        left.delete(id);
      }
      for (const item of left.values()) {
        expect(item.parentId === null || left.has(item.parentId)).toBe(true);
        expect(mayGo(item)).toBe(false);
        expect(waits.has(item.id)).toBe(item.goes);
      }
      expect(new Set(removals.map(({ id }) => id)).size).toBe(removals.length);
    }),
    { numRuns: 500 },
  );
});
