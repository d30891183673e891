// Goal: each day the share of a repository's backups that was asked for is verified, oldest first, spread over the day,
// one at a time. Method: days of a fake clock, looked at every minute, with the function's answers played back.
import { expect, test } from 'vitest';
import { chooseVerification, type VerifyQuestion } from './choose-verification.ts';

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
const START_MS = Date.UTC(2026, 0, 1);

function backups(count: number) {
  return Array.from({ length: count }, (_, index) => ({
    backupId: `backup ${index}`,
    createdAt: new Date(START_MS - DAY_MS + index),
    triedAt: null as Date | null,
  }));
}

interface Choice {
  atMs: number;
  backupId: string;
}

/** Looks every minute; a verification takes ten. `asleep`: nobody looks. */
function play(
  candidates: ReturnType<typeof backups>,
  options: { percentPerDay: number; days: number; asleep?: (minute: number) => boolean },
): Choice[] {
  const chosen: Choice[] = [];
  let busyUntilMs = 0;
  let triedAt: Date | null = null;
  for (let minute = 0; minute < options.days * 24 * 60; minute++) {
    const nowMs = START_MS + minute * MINUTE_MS;
    if (options.asleep?.(minute)) continue;
    const isBusy = nowMs < busyUntilMs;
    const question: VerifyQuestion = {
      candidates,
      isBusy,
      nowMs,
      triedAt,
      ...options,
    };
    const backupId = chooseVerification(question);
    if (backupId === undefined) continue;
    busyUntilMs = nowMs + 10 * MINUTE_MS;
    triedAt = new Date(nowMs);
    candidates.find(one => one.backupId === backupId)!.triedAt = triedAt;
    chosen.push({ atMs: nowMs - START_MS, backupId });
  }
  return chosen;
}

test('a tenth of twenty backups a day: two, half a day apart, and all of them in ten days', () => {
  const chosen = play(backups(20), { percentPerDay: 10, days: 10 });
  expect(chosen).toHaveLength(20);
  expect(new Set(chosen.slice(0, 20).map(choice => choice.backupId)).size).toBe(20);
  const gaps = chosen.slice(1).map((choice, index) => choice.atMs - chosen[index]!.atMs);
  expect(Math.max(...gaps.map(gap => Math.abs(gap - DAY_MS / 2)))).toBeLessThanOrEqual(MINUTE_MS);
  for (let day = 1; day < 10; day++) {
    const ofDay = chosen.filter(({ atMs }) => Math.floor(atMs / DAY_MS) === day);
    expect(ofDay).toHaveLength(2);
  }
});

test('oldest first, those never looked at before all others', () => {
  const candidates = backups(4);
  candidates[2]!.triedAt = new Date(START_MS - 5 * DAY_MS);
  candidates[0]!.triedAt = new Date(START_MS - 9 * DAY_MS);
  const chosen = play(candidates, { percentPerDay: 100, days: 1 });
  expect(chosen.slice(0, 4).map(choice => choice.backupId)).toEqual([
    'backup 1',
    'backup 3',
    'backup 0',
    'backup 2',
  ]);
});

test('less than one a day: one every few days', () => {
  const chosen = play(backups(5), { percentPerDay: 5, days: 16 });
  expect(chosen.length).toBeGreaterThanOrEqual(4);
  expect(chosen.length).toBeLessThanOrEqual(5);
});

test('what was missed is not made up for, and what an operator verified counts', () => {
  const isDown = (minute: number) => minute < 20 * 60;
  expect(play(backups(24), { percentPerDay: 100, days: 1, asleep: isDown }).length).toBeLessThanOrEqual(5);
  const candidates = backups(2);
  const triedAt = new Date(START_MS + 1);
  candidates[1]!.triedAt = triedAt;
  const asked = { candidates, isBusy: false, percentPerDay: 50, triedAt };
  expect(chooseVerification({ ...asked, nowMs: START_MS + 1 })).toBeUndefined();
  expect(chooseVerification({ ...asked, nowMs: START_MS + DAY_MS })).toBeUndefined();
  expect(chooseVerification({ ...asked, nowMs: START_MS + 1 + DAY_MS })).toBe('backup 0');
});

test('none while one is under way, none of none, none for no share', () => {
  const nowMs = START_MS;
  const question = {
    candidates: backups(3),
    isBusy: false,
    percentPerDay: 50,
    nowMs,
    triedAt: null,
  };
  expect(chooseVerification(question)).toBe('backup 0');
  expect(chooseVerification({ ...question, isBusy: true })).toBeUndefined();
  expect(chooseVerification({ ...question, candidates: [] })).toBeUndefined();
  expect(chooseVerification({ ...question, percentPerDay: 0 })).toBeUndefined();
});

test('a repository that grows and shrinks all day has its share verified, not more', () => {
  const all = backups(40);
  let triedAt: Date | null = null;
  let count = 0;
  for (let minute = 0; minute < 2 * 24 * 60; minute++) {
    const nowMs = START_MS + minute * MINUTE_MS;
    // One more or less each minute, between 30 and 40.
    const candidates = all.slice(0, 30 + Math.abs((minute % 20) - 10));
    const question = {
      candidates,
      isBusy: false,
      percentPerDay: 20,
      nowMs,
      triedAt,
    };
    const backupId = chooseVerification(question);
    if (backupId === undefined) continue;
    triedAt = new Date(nowMs);
    all.find(one => one.backupId === backupId)!.triedAt = triedAt;
    count++;
  }
  // A fifth of thirty to forty, on each of two days.
  expect(count).toBeGreaterThanOrEqual(12);
  expect(count).toBeLessThanOrEqual(17);
});
