// Goal: what is due once in an interval is spread over it, each at the same moment of each. Method: ids that are spread
// evenly, played through a day.
import { expect, test } from 'vitest';
import { turnBefore } from './turns.ts';

const DAY_MS = 86_400_000;
const idOf = (share: number) =>
  `${Math.floor(share * 2 ** 32)
    .toString(16)
    .padStart(8, '0')}-0000-4000-8000-000000000000`;

test('each id has its turn once in the interval, at its own moment', () => {
  for (const share of [0, 0.25, 0.999]) {
    const id = idOf(share);
    expect(turnBefore(10 * DAY_MS - 1, DAY_MS, id).getTime()).toBeCloseTo((9 + share) * DAY_MS, -3);
    const turn = turnBefore(10 * DAY_MS, DAY_MS, id).getTime();
    expect(turn).toBeLessThanOrEqual(10 * DAY_MS);
    expect(turn).toBeGreaterThan(9 * DAY_MS);
    expect(turnBefore(turn - 1, DAY_MS, id).getTime()).toBeCloseTo(turn - DAY_MS, 0);
    expect(turnBefore(turn + DAY_MS / 2, DAY_MS, id).getTime()).toBeCloseTo(turn, 0);
  }
});

test('a thousand that were done at one moment are not due again at one', () => {
  const ids = Array.from({ length: 1000 }, (_, index) => idOf(((index * 617) % 1000) / 1000));
  const due = (fromMs: number, toMs: number) =>
    ids.filter(id => turnBefore(toMs, DAY_MS, id).getTime() > fromMs).length;
  expect(due(20 * DAY_MS, 21 * DAY_MS)).toBe(1000);
  for (let hour = 0; hour < 24; hour++) {
    const fromMs = 20 * DAY_MS + (hour * DAY_MS) / 24;
    expect(due(fromMs, fromMs + DAY_MS / 24)).toBeLessThanOrEqual(45);
  }
});
