// Goal: the twelve invariants hold on every step, whatever guests, operators, faults and the order of requests do.
// Method: random histories, played to the engine over a source and a target that hold every request, and held
// against a plain model. TIDEMARK_HISTORIES=5000 plays more of them by hand, TIDEMARK_HISTORY_SEED=7 begins
// elsewhere. A failing one is shrunk and printed.
import { expect, test } from 'vitest';
import { type CopyingStep, generateCopyingHistory } from '../testing/history/copying.ts';
import { formatHistory } from '../testing/history/history.ts';
import { playInEngine } from '../testing/history/play-in-engine.ts';
import { shrinkHistory } from '../testing/history/shrink.ts';

const COUNT = Number(process.env.TIDEMARK_HISTORIES ?? 200);
const FIRST = Number(process.env.TIDEMARK_HISTORY_SEED ?? 1);
/** Histories of one test. */
const BATCH = 50;
/** A history takes some ten milliseconds; a machine may be busy. */
const TIMEOUT_MS = 120_000;
const SHRINK_MS = 20_000;

for (let first = FIRST; first < FIRST + COUNT; first += BATCH) {
  const last = Math.min(first + BATCH, FIRST + COUNT) - 1;
  test(`random histories of seeds ${first} to ${last}`, { timeout: TIMEOUT_MS }, async () => {
    for (let seed = first; seed <= last; seed++) {
      const steps = generateCopyingHistory(seed);
      const reason = await attempt(steps);
      if (reason !== undefined) throw await explain(seed, steps, reason);
    }
  });
}

/** What is wrong, or undefined. */
async function attempt(steps: readonly CopyingStep[]): Promise<unknown> {
  try {
    await playInEngine(steps);
    return undefined;
  } catch (error) {
    return error;
  }
}

async function explain(seed: number, steps: readonly CopyingStep[], reason: unknown): Promise<Error> {
  const deadline = performance.now() + SHRINK_MS;
  const least = await shrinkHistory({ steps, reason }, attempt, () => performance.now() < deadline);
  const text = `seed ${seed}, shrunk to\n${formatHistory(least.steps)}\n${least.reason}`;
  return new Error(text, { cause: least.reason });
}

test('a history is the same each time it is made', () => {
  expect(generateCopyingHistory(5)).toEqual(generateCopyingHistory(5));
  expect(generateCopyingHistory(5)).not.toEqual(generateCopyingHistory(6));
});
