// Goal: the first failure is reported at once, a flood of them by number. Method: a clock the test moves.
import { expect, test } from 'vitest';
import { FailureLog, type RequestFailure } from './failure-log.ts';

test('reports at most once in an interval and counts what it left out', () => {
  const reported: RequestFailure[] = [];
  let nowMs = 0;
  const log = new FailureLog({
    report: failure => reported.push(failure),
    monotonicMs: () => nowMs,
    intervalMs: 1000,
  });
  log.note('EIO', new Error('first'));
  for (nowMs = 1; nowMs < 1000; nowMs += 100) log.note('EIO', new Error('flood'));
  expect(reported).toEqual([{ errno: 'EIO', message: 'first', count: 1 }]);
  nowMs = 1000;
  log.note('ENOSPC', 'full');
  expect(reported.slice(1)).toEqual([{ errno: 'ENOSPC', message: 'full', count: 11 }]);
});
