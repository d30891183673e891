// Goal: what a rule of replication is to come to is known without asking it. Method: rows by hand.
import { expect, test } from 'vitest';
import { type BackupRow, wishOf } from './rule-check.ts';

const sides = { source: 'near', target: 'far' };

function near(checkpoint: string, row: Partial<BackupRow> = {}): BackupRow {
  return {
    ...{ checkpoint, repository: 'near', state: 'available', is_replica: false, is_root: false },
    ...row,
  };
}

function far(checkpoint: string, row: Partial<BackupRow> = {}): BackupRow {
  return near(checkpoint, { repository: 'far', is_replica: true, ...row });
}

test('without retention all that is available is wanted, and what is not there is missing', () => {
  const rows = [near('a', { is_root: true }), far('a'), near('b'), near('c'), near('d', { state: 'hidden' })];
  const being = far('b', { state: 'creating' });
  const wish = wishOf([...rows, being, far('c', { state: 'hidden' })], { ...sides, keep: null });
  expect(wish).toEqual({ wanted: ['a', 'b', 'c'], missing: ['b'], surplus: [] });
});

test('with retention only the newest of either side are wanted, and older replicas are to be gone', () => {
  const rows = [
    ...[near('a', { is_root: true }), far('a'), near('b'), far('b'), near('c'), far('c')],
    ...[near('d'), far('e', { is_replica: false }), far('f')],
  ];
  const { wanted, missing, surplus } = wishOf(rows, { ...sides, keep: { last: 3 } });
  expect([wanted, missing]).toEqual([['d'], ['d']]);
  // The full one and the newest of the source stay, whatever the rule keeps.
  expect(surplus).toEqual([]);
  expect(wishOf(rows, { ...sides, keep: { last: 1 } }).surplus).toEqual(['b', 'c']);
});

test('a backup of another repository is none of a rule', () => {
  const rows = [near('a', { repository: 'elsewhere' }), near('b'), far('b')];
  expect(wishOf(rows, { ...sides, keep: null })).toEqual({ wanted: ['b'], missing: [], surplus: [] });
});
