// Goal: each of the twelve invariants is really looked at. Method: the engine is broken in one place, and among
// the first histories one must be found that names the invariant which this breaks.
import { expect, test } from 'vitest';
import { generateCopyingHistory } from '../../src/testing/history/copying.ts';
import { playInEngine } from '../../src/testing/history/play-in-engine.ts';
import { INVARIANTS, Violation } from '../../src/testing/history/verdict.ts';
import { DEFECTS } from './invariant-defects.ts';

/** Histories that a defect may get away with. */
const SEEDS_MAX = 100;
/** On a busy machine. */
const TIMEOUT_MS = 120_000;

test.each(DEFECTS)('INV-$invariant: $title', { timeout: TIMEOUT_MS }, async ({ invariant, plant }) => {
  const restore = plant();
  const found = new Set<unknown>();
  try {
    for (let seed = 1; seed <= SEEDS_MAX && !found.has(invariant); seed++) {
      await playInEngine(generateCopyingHistory(seed)).catch((error: unknown) => {
        found.add(error instanceof Violation ? error.invariant : error);
      });
    }
  } finally {
    restore();
  }
  expect([...found]).toContain(invariant);
});

test('there is a defect for each invariant', () => {
  expect(new Set(DEFECTS.map(({ invariant }) => invariant))).toEqual(new Set(INVARIANTS));
});
