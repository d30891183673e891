// Goal: a drain that tells anything but the truth is a fault. Method: results by hand.
import { expect, test } from 'vitest';
import { checkSpares, type DrainResult, judgeDrain } from './care-check.ts';

const told: DrainResult = {
  state: 'incomplete',
  moved: [{ name: 'one', to: 'alpha' }],
  stays: [{ name: 'two', reason: "Volume 'two' is used by restore run 7. Wait for it, or cancel it." }],
  repositories: [],
};
const volumes = [
  { name: 'one', storageNode: 'alpha' },
  { name: 'two', storageNode: 'gamma' },
];
const known = { volumes, there: ['one', 'two'], touched: new Set<string>(), mayFail: false };

test('what is so is no fault', () => {
  expect(judgeDrain(told, known)).toEqual([]);
});

test.each<[string, Partial<DrainResult>, Partial<typeof known>, RegExp]>([
  ['it is complete', { state: 'complete' }, {}, /called complete/],
  ['a repository', { repositories: ['vault'] }, {}, /vault are not there/],
  ['another place', { moved: [{ name: 'one', to: 'beta' }] }, {}, /one is told to be on beta/],
  ['no reason', { stays: [{ name: 'two', reason: 'no storage node has room' }] }, {}, /two stays: no/],
  ['nothing of a third', {}, { there: ['one', 'two', 'three'] }, /three is not told of/],
  ['one that is gone', {}, { volumes: volumes.slice(1) }, /one is told .* is on undefined/],
  ['one that has gone', {}, { volumes: volumes.slice(0, 1) }, /two is told .* is on undefined/],
])('a drain that tells of %s', (_what, result, circumstances, fault) => {
  expect(judgeDrain({ ...told, ...result }, { ...known, ...circumstances }).join()).toMatch(fault);
});

test('what others moved or deleted may be elsewhere, and a storage node that died is a reason', () => {
  const others = { ...known, volumes: [], touched: new Set(['one', 'two']) };
  expect(judgeDrain(told, others)).toEqual([]);
  const stays = [{ name: 'two', reason: 'Storage node beta does not answer.' }];
  expect(judgeDrain({ ...told, stays }, { ...known, mayFail: true })).toEqual([]);
});

test('a volume with a guest is read where it is, and gone only where somebody deleted it', async () => {
  const guest = (...faults: string[]) => ({ check: async () => faults });
  const spares = new Map([
    ['one', guest()],
    ['two', guest('block 3 is damaged')],
    ['deleted', guest()],
    ['lost', guest()],
  ]);
  const findings = { faults: [] as string[], counts: new Map<string, number>() };
  await checkSpares(spares, { volumes, deleted: new Set(['deleted']), findings });
  expect(findings.faults).toEqual([
    'two on gamma: block 3 is damaged',
    'volume lost is gone, and nobody deleted it',
  ]);
  expect([...spares.keys()]).toEqual(['one', 'two']);
});
