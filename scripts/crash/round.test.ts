// Goal: every process has its share of the kills, the queue among them. Method: the plans of many rounds.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { planRound } from './round.ts';
import { PointLog } from './victims.ts';
import type { Queue } from './world.ts';

const ROUNDS = 4_000;

function victimsWith(queue: Queue): { share: (victim: string) => number; losing: number } {
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-plans-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const points = new PointLog(folder);
  const plans = Array.from({ length: ROUNDS }, (_, number) => planRound({ seed: 3, number, queue }, points));
  const share = (victim: string) => plans.filter(plan => plan.victim === victim).length / ROUNDS;
  return { share, losing: plans.filter(({ losesQueue }) => losesQueue).length / ROUNDS };
}

test('Redis dies as often as the most frequent others where it is the queue, every other time with its data', () => {
  const { share, losing } = victimsWith('redis');
  for (const other of ['alpha', 'beta', 'worker']) expect(share('redis')).toBeCloseTo(share(other), 1);
  for (const other of ['gamma', 'api', 'postgres']) {
    expect(share(other)).toBeGreaterThan(0.05);
    expect(share('redis')).toBeGreaterThan(share(other));
  }
  expect(losing / share('redis')).toBeCloseTo(0.5, 1);
});

test('where it is not the queue it is left alone', () => {
  const { share, losing } = victimsWith('postgres');
  expect([share('redis'), losing]).toEqual([0, 0]);
});
