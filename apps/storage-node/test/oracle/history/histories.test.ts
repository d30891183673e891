// Random histories, played to both daemons and to the model. TIDEMARK_HISTORIES=1000 plays more of them by hand,
// TIDEMARK_HISTORY_SEED=7 begins elsewhere. A failing one is shrunk and printed.
import { formatHistory, generateHistory, type Step, shrinkHistory } from '@tidemark/engine/testing';
import { expect, test } from 'vitest';
import { playScenario } from '../scenario.ts';
import { missingTools } from '../tools.ts';
import { playHistory } from './play.ts';

const COUNT = Number(process.env.TIDEMARK_HISTORIES ?? 200);
const FIRST = Number(process.env.TIDEMARK_HISTORY_SEED ?? 1);
/** Histories that share a pair of daemons: starting those takes longer than a history. */
const BATCH = 10;
const TIMEOUT_MS = 300_000;
const SHRINK_MS = 60_000;

for (let first = FIRST; first < FIRST + COUNT; first += BATCH) {
  const seeds = Array.from({ length: Math.min(BATCH, FIRST + COUNT - first) }, (_, index) => first + index);
  const title = `RH-${first} random histories of seeds ${first} to ${seeds.at(-1)}`;
  test(title, { timeout: TIMEOUT_MS }, async context => {
    const missing = missingTools();
    if (missing.length > 0 && process.env.CI) throw new Error(`${missing.join(', ')} not installed`);
    context.skip(missing.length > 0, `${missing.join(', ')} not installed`);
    const scenario = { id: `RH-${first}`, title: `seeds ${first} to ${seeds.at(-1)}`, verdict: 'equal' };
    Object.assign(context.task.meta, { scenario });
    const histories = seeds.map(generateHistory);
    const failure = await attempt(histories);
    if (failure !== undefined) throw await explain(seeds, failure);
  });
}

/** What is wrong, or undefined. */
async function attempt(histories: readonly (readonly Step[])[]): Promise<unknown> {
  try {
    await playScenario({
      ...{ id: 'RH', title: 'random histories', verdict: 'equal', sides: ['qemu', 'tidemark'] },
      async play(s) {
        for (const [index, steps] of histories.entries()) await playHistory(s, steps, `disk${index}`);
      },
    });
    return undefined;
  } catch (error) {
    return error;
  }
}

/** Finds the seed, drops steps as long as the history still fails, and says what is left. */
async function explain(seeds: readonly number[], failure: unknown): Promise<Error> {
  const deadline = performance.now() + SHRINK_MS;
  for (const seed of seeds) {
    const reason = await attempt([generateHistory(seed)]);
    if (reason === undefined) continue;
    const failing = { steps: generateHistory(seed), reason };
    const least = await shrinkHistory<Step>(
      failing,
      steps => attempt([steps]),
      () => performance.now() < deadline,
    );
    const text = `seed ${seed}, shrunk to\n${formatHistory(least.steps)}\n${textOf(least.reason)}`;
    return new Error(text, { cause: least.reason });
  }
  return new Error(`seeds ${seeds.join(', ')} fail only together: ${textOf(failure)}`, { cause: failure });
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

test('a history is the same each time it is made', () => {
  expect(generateHistory(5)).toEqual(generateHistory(5));
  expect(generateHistory(5)).not.toEqual(generateHistory(6));
});
