// Goal: a rule asks for what is missing, oldest first, never for what its own retention would drop at once, and comes
// to an end. Method: fixed histories, and random trees played on a model that copies and prunes as it is told.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { RetentionRules } from '../retention/keep.ts';
import type { RetentionRow } from '../retention-rows.ts';
import { planReplication, type ReplicationSetting } from './replica-plan.ts';

const NOW = new Date('2026-11-21T12:00:00Z');
const NONE: RetentionRules = { last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
const ALL: ReplicationSetting = { keep: null, timeZone: 'UTC', flatten: false, newestFirst: false };
const keepLast = (last: number) => ({ ...ALL, keep: { ...NONE, last } });

/** Backup `b3` is of checkpoint `c3`, three hours after the first. */
function row(number: number, parent: number | null, more: Partial<RetentionRow> = {}): RetentionRow {
  const at = new Date(NOW.getTime() - (1000 - number) * 3_600_000);
  return {
    ...{ id: `b${number}`, volumeId: 'v', checkpointId: `c${number}`, checkpoint: `c${number}` },
    ...{ parentId: parent === null ? null : `b${parent}`, replicaOfId: null, state: 'available' as const },
    ...{
      pointInTime: at,
      createdAt: at,
      finishedAt: at,
      pinnedUntil: null,
      storedBytes: 10,
      holders: [],
      unsound: null,
    },
    ...more,
  };
}

const replica = (number: number, parent: number | null, more: Partial<RetentionRow> = {}) =>
  row(number, parent, {
    ...{ id: `r${number}`, replicaOfId: `b${number}`, parentId: parent === null ? null : `r${parent}` },
    ...more,
  });

function planOf(source: RetentionRow[], target: RetentionRow[], setting = ALL) {
  const { next, missing, blocked, goes } = planReplication(
    { source, target, isChosen: volumeId => volumeId.startsWith('v'), now: NOW },
    setting,
  );
  return {
    next: next.map(({ backupId, flatten }) => `${backupId}${flatten ? ' flat' : ''}`),
    missing: missing.map(({ id }) => id),
    blocked: blocked.map(({ backupId }) => backupId),
    goes: goes.map(({ id }) => id),
  };
}

const CHAIN = [row(1, null), row(2, 1), row(3, 2), row(4, 3)];

test('a chain is copied from its oldest on; or to its newest at once', () => {
  expect(planOf(CHAIN, [])).toMatchObject({ next: ['b1'], missing: ['b1', 'b2', 'b3', 'b4'] });
  expect(planOf(CHAIN, [replica(1, null)]).next).toEqual(['b2']);
  expect(planOf(CHAIN, [], { ...ALL, newestFirst: true }).next).toEqual(['b4']);
  expect(planOf(CHAIN, [], { ...ALL, flatten: true }).next).toEqual(['b1 flat']);
  expect(
    planOf(
      CHAIN,
      CHAIN.map((_, at) => replica(at + 1, at || null)),
    ),
  ).toMatchObject({ next: [], missing: [] });
});

test('while one of a volume is on its way, no other is begun; other volumes go on', () => {
  const other = row(9, null, { volumeId: 'v2' });
  const elsewhere = row(8, null, { volumeId: 'x' });
  const plan = planOf([...CHAIN, other, elsewhere], [replica(1, null, { state: 'creating' })]);
  expect(plan).toMatchObject({ next: ['b9'], missing: ['b1', 'b2', 'b3', 'b4', 'b9'] });
});

test('what the target would let go at once is not asked for, and comes within what stands on it', () => {
  expect(planOf(CHAIN, [], keepLast(2))).toMatchObject({ next: ['b3 flat'], missing: ['b3', 'b4'] });
  expect(planOf(CHAIN, [replica(3, null)], keepLast(2)).next).toEqual(['b4']);
  expect(planOf(CHAIN, [], { ...keepLast(2), newestFirst: true }).next).toEqual(['b3 flat']);
});

test('a parent that is on its way out there, or damaged here, is not built on', () => {
  const leaving = replica(1, null, { state: 'hidden' });
  expect(planOf(CHAIN.slice(0, 2), [leaving])).toMatchObject({ next: ['b2 flat'], missing: ['b2'] });
  const damaged = row(1, null, { unsound: 'known to be damaged' });
  const plan = planOf([damaged, row(2, 1), row(3, 2, { unsound: 'known to be damaged' })], []);
  expect(plan).toMatchObject({ next: ['b2 flat'], blocked: ['b1', 'b3'] });
});

test('replicas go by the rule once nothing is missing; bases of what comes next stay, and what is no replica', () => {
  const there = [replica(1, null), replica(2, 1), replica(3, 2), replica(4, 3)];
  expect(planOf(CHAIN, there, keepLast(1)).goes).toEqual(['r2', 'r3']);
  expect(planOf(CHAIN, there.slice(0, 3), keepLast(1)).goes).toEqual([]);
  // With the source gone they go by the rule alone.
  expect(planOf([], there, keepLast(1)).goes).toEqual(['r1', 'r2', 'r3']);
  const direct = { ...there[1]!, replicaOfId: null };
  expect(planOf(CHAIN, [there[0]!, direct, there[2]!, there[3]!], keepLast(1)).goes).toEqual(['r3']);
  expect(planOf(CHAIN, there, ALL).goes).toEqual([]);
});

const trees = fc.array(
  fc.record({ parent: fc.nat(), isRoot: fc.boolean(), damaged: fc.integer({ min: 0, max: 9 }) }),
  { minLength: 1, maxLength: 25 },
);
const settings = fc.record({
  keep: fc.option(fc.integer({ min: 1, max: 5 }), { nil: null }),
  flatten: fc.boolean(),
  newestFirst: fc.boolean(),
});

test('doing what it asks for ends with all that is wanted there, and nothing is sent twice', () => {
  fc.assert(
    fc.property(trees, settings, (shape, { keep, flatten, newestFirst }) => {
      const source = shape.map(({ parent, isRoot, damaged }, at) =>
        row(at, at === 0 || isRoot ? null : parent % at, damaged === 0 ? { unsound: 'damaged' } : {}),
      );
      const setting = { ...(keep === null ? ALL : keepLast(keep)), flatten, newestFirst };
      const target = new Map<string, RetentionRow>();
      const byId = new Map(source.map(one => [one.id, one]));
      for (let rounds = 0; ; rounds++) {
        expect(rounds).toBeLessThanOrEqual(source.length * 2);
        const sides = { source, target: [...target.values()], isChosen: () => true, now: NOW };
        const { next, missing, blocked, goes } = planReplication(sides, setting);
        for (const { id } of goes) target.delete([...target].find(([, one]) => one.id === id)![0]);
        if (next.length === 0) {
          expect(missing.length).toBe(blocked.length);
          if (goes.length === 0) return;
        }
        for (const wanted of next) {
          const copies = [byId.get(wanted.backupId)!];
          for (;;) {
            const parent = byId.get(copies[0]!.parentId ?? '');
            if (wanted.flatten || parent === undefined || target.has(parent.checkpointId)) break;
            copies.unshift(parent);
          }
          for (const one of copies) {
            expect(one.unsound).toBeNull();
            expect(target.has(one.checkpointId)).toBe(false);
            target.set(one.checkpointId, { ...one, id: `r-${one.id}`, replicaOfId: one.id });
          }
        }
      }
    }),
    { numRuns: 400 },
  );
});
