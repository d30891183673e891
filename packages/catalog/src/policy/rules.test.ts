// Goal: kinds, bandwidth and admission go by what the policy says, and a simulation tells what would happen. Method:
// fixed cases.
import { expect, test } from 'vitest';
import { type AdmissionFacts, judge } from './admission.ts';
import { bandwidthAt, shareOf } from './bandwidth.ts';
import { kindOf, type PolicyDefinition } from './definition.ts';
import { type SimulatedFiring, simulate } from './simulate.ts';

const POLICY: PolicyDefinition = {
  description: '',
  selector: '',
  schedule: { cron: '0 2 * * *', timeZone: 'Europe/Berlin', missed: 'once', missedMax: 1, jitterMs: 0 },
  kind: 'incremental',
  fullEvery: 3,
  repositoryId: 'r',
  replicaIds: [],
  keep: { last: 2, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 },
  verifyPercent: 0,
  concurrency: 2,
  bandwidth: [],
  priority: 10,
  retry: { times: 0, delayMs: 0 },
  dropOldest: true,
  grouped: null,
};

test('each of so many firings is full', () => {
  const kinds = [0, 1, 2, 3].map(number => kindOf(POLICY, number));
  expect(kinds).toEqual(['full', 'incremental', 'incremental', 'full']);
  expect(kindOf({ ...POLICY, fullEvery: 0 }, 0)).toBe('incremental');
  expect(kindOf({ ...POLICY, kind: 'checkpoint' }, 0)).toBe('checkpoint');
  expect(kindOf({ ...POLICY, kind: 'differential' }, 4)).toBe('differential');
});

test('the first window that holds the local time counts, also over midnight', () => {
  const windows = [
    { from: '08:00', to: '18:00', days: [1, 2, 3, 4, 5], bytesPerSecond: 10 },
    { from: '22:00', to: '02:00', days: [5], bytesPerSecond: 20 },
    { from: '12:00', to: '12:00', days: [7], bytesPerSecond: 30 },
  ];
  const at = (moment: string) => bandwidthAt(windows, { timeZone: 'Europe/Berlin', now: new Date(moment) });
  // 2026-05-01 is a Friday; Berlin is two hours ahead.
  expect(at('2026-05-01T05:59Z')).toBe(0);
  expect(at('2026-05-01T06:00Z')).toBe(10);
  expect(at('2026-05-01T15:59Z')).toBe(10);
  expect(at('2026-05-01T16:00Z')).toBe(0);
  expect(at('2026-05-01T20:00Z')).toBe(20);
  expect(at('2026-05-01T23:59Z')).toBe(20);
  expect(at('2026-05-02T00:00Z')).toBe(0);
  expect(at('2026-05-02T08:00Z')).toBe(0);
  expect(at('2026-05-03T10:00Z')).toBe(30);
  expect(at('2026-05-04T09:59Z')).toBe(10);
  expect([shareOf(0, 3), shareOf(100, 3), shareOf(1, 3)]).toEqual([0, 33, 1]);
});

const load = (name: string, running = 0, max = 4) => ({ id: `id of ${name}`, name, running, max, coming: 1 });
const room = { availableBytes: 1000, limitBytes: null, reservedBytes: 0 };
const facts = (more: Partial<AdmissionFacts> = {}): AdmissionFacts => ({
  policy: load('nightly'),
  storageNodes: [load('alpha')],
  repository: { ...load('vault'), ...room },
  needBytes: 1000,
  ...more,
});

test('what fits is admitted, and what does not waits or is refused, with the reason', () => {
  expect(judge(facts())).toEqual({ kind: 'admit' });
  expect(judge(facts({ repository: null, needBytes: null }))).toEqual({ kind: 'admit' });
  expect(judge(facts({ storageNodes: [load('beta'), load('alpha', 4)] }))).toEqual({
    kind: 'wait',
    who: 'storage node',
    id: 'id of alpha',
    reason: "storage node 'alpha' has 4 of at most 4 backups under way",
  });
  expect(judge(facts({ policy: load('nightly', 2, 2) }))).toMatchObject({ kind: 'wait' });
  expect(judge(facts({ repository: { ...load('vault', 9, 8), ...room } }))).toMatchObject({ kind: 'wait' });
  const promised = { ...load('vault', 1), ...room, reservedBytes: 1 };
  expect(judge(facts({ repository: promised }))).toEqual({
    kind: 'wait',
    who: 'room',
    id: 'id of vault',
    reason:
      "needs up to 1000 bytes, and repository 'vault' has 1000 left, 1 of them promised to backups under way",
  });
  const small = { ...load('vault', 8, 8), ...room, limitBytes: 999 };
  expect(judge(facts({ repository: small })).kind).toBe('refuse');
  expect(
    judge(facts({ needBytes: null, repository: { ...load('vault'), ...room, availableBytes: 0 } })).kind,
  ).toBe('admit');
});

test('volumes of one instant begin together where all storage nodes have places, or alone', () => {
  const together = (running: number, coming: number) => [load('alpha'), { ...load('beta', running), coming }];
  expect(judge(facts({ storageNodes: together(1, 3) })).kind).toBe('admit');
  expect(judge(facts({ storageNodes: together(2, 3) }))).toMatchObject({
    kind: 'wait',
    id: 'id of beta',
    reason: "storage node 'beta' has 2 of at most 4 backups under way, and 3 are to begin together",
  });
  expect(judge(facts({ storageNodes: together(0, 9) })).kind).toBe('admit');
  expect(judge(facts({ storageNodes: together(1, 9) })).kind).toBe('wait');
});

test('a simulation tells firings, kinds and prunes, and begins with what there is', async () => {
  const backup = (id: string, moment: string) => ({
    ...{ id, pointInTime: new Date(moment), createdAt: new Date(moment) },
    ...{ pinnedUntil: null, holders: [], unsound: null },
  });
  const simulation = {
    policyId: 'p',
    definition: POLICY,
    number: 4,
    from: new Date('2026-05-01T00:30Z'),
    until: new Date('2026-05-04T12:00Z'),
    volumes: [
      { id: 'v1', name: 'old', backups: [backup('b1', '2026-04-30T00:00Z')], hasBase: true },
      { id: 'v2', name: 'new', backups: [], hasBase: false },
    ],
    breathe: async () => {},
  };
  const firings: SimulatedFiring[] = [];
  for await (const firing of simulate(simulation)) firings.push(firing);
  const told = firings.map(({ number, startAt, volumes }) => [
    number,
    startAt.toISOString().slice(5, 16),
    ...volumes.map(
      ({ volume, kind, keeps, pruned }) => `${volume} ${kind} ${keeps.length} -${pruned.length}`,
    ),
  ]);
  expect(told).toEqual([
    [4, '05-02T00:00', 'old incremental 2 -0', 'new full 1 -0'],
    [5, '05-03T00:00', 'old incremental 2 -1', 'new incremental 2 -0'],
    [6, '05-04T00:00', 'old full 2 -1', 'new full 2 -1'],
  ]);
  expect(firings[1]!.volumes[0]!.pruned).toEqual([{ id: 'b1', pointInTime: new Date('2026-04-30T00:00Z') }]);
  expect(firings[2]!.volumes[0]!.pruned).toEqual([{ id: null, pointInTime: new Date('2026-05-02T00:00Z') }]);
  expect(firings[1]!.volumes[0]!.keeps.at(-1)!.reasons).toEqual(['last 1']);
});

test('a simulation of many volumes lets others have their turn before its first firing is told', async () => {
  const volumes = Array.from({ length: 450 }, (_, n) => ({
    ...{ id: `v${n}`, name: `v${n}` },
    ...{ backups: [], hasBase: false },
  }));
  let turns = 0;
  const breathe = async () => {
    turns++;
  };
  const moments = { from: new Date('2026-05-01T00:30Z'), until: new Date('2026-05-02T12:00Z') };
  const firings = simulate({ policyId: 'p', definition: POLICY, number: 0, ...moments, volumes, breathe });
  expect((await firings.next()).value!.volumes).toHaveLength(450);
  expect(turns).toBe(4);
});
