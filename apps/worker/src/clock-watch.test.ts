// Goal: a clock that is set ahead is waited out, and one that runs, stands behind or is set back is not.
import { expect, test } from 'vitest';
import { ClockWatch } from './clock-watch.ts';

const HOUR_MS = 3_600_000;

test('a jump ahead is waited out, and then all is as before', () => {
  const clock = new ClockWatch({ settleMs: 3_000 });
  const asked = [
    { wallMs: 0, monotonicMs: 5_000 },
    { wallMs: 1_000, monotonicMs: 6_000 },
    { wallMs: HOUR_MS, monotonicMs: 7_000 },
    { wallMs: HOUR_MS + 2_900, monotonicMs: 9_900 },
    { wallMs: HOUR_MS + 3_000, monotonicMs: 10_000 },
  ];
  expect(asked.map(moment => clock.isSteady(moment))).toEqual([true, true, false, false, true]);
});

test('neither a jump back nor a long pause is one', () => {
  const clock = new ClockWatch({ settleMs: 3_000 });
  const asked = [
    { wallMs: HOUR_MS, monotonicMs: 0 },
    { wallMs: 0, monotonicMs: 1_000 },
    { wallMs: HOUR_MS, monotonicMs: 1_000 + HOUR_MS },
  ];
  expect(asked.map(moment => clock.isSteady(moment))).toEqual([true, true, true]);
});
