// Goal: a sleep lasts as long as it was asked for, weeks and years too, and ends when somebody wants it to.
import { expect, test } from 'vitest';
import { systemClock } from './clock.ts';

const SOON_MS = 30;

test.each([
  ['an hour', 3_600_000],
  ['more than a timer of the runtime can count', 2 ** 31],
  ['136 years, the longest time that QMP can say', (2 ** 32 - 1) * 1000],
])('%s is not over at once, and can be cut short', async (_what, ms) => {
  const ending = new AbortController();
  const sleep = systemClock.sleep(ms, ending.signal).then(() => 'woken');
  const soon = systemClock.sleep(SOON_MS).then(() => 'still asleep');
  expect(await Promise.race([sleep, soon])).toBe('still asleep');
  ending.abort();
  expect(await sleep).toBe('woken');
});

test('nobody falls asleep whose signal has gone off already', async () => {
  await systemClock.sleep(3_600_000, AbortSignal.abort());
});
