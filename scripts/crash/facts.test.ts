// Goal: what an answer told has to be there, and what got lost with its answer may be or not. Method: an api in memory
// that answers, does and forgets as it is told.
import { expect, test } from 'vitest';
import { SeededRandom } from '../../packages/engine/src/testing/seeded-random.ts';
import { Facts } from './facts.ts';
import type { Answer, Method } from './rest.ts';

const LOST = { status: 0, body: { code: 'no-answer', detail: 'cut off' } };

class MemoryApi {
  readonly rows = new Map<string, object>();
  readonly keys = new Map<string, Answer>();
  /** Of the next call: its answer does not arrive. */
  losesAnswers = false;

  async call(method: Method, path: string, body?: object, key?: string): Promise<Answer> {
    const before = key === undefined ? undefined : this.keys.get(key);
    const answer = before ?? this.#answer(method, path, body as { name: string });
    if (key !== undefined) this.keys.set(key, answer);
    const isLost = this.losesAnswers && method !== 'GET';
    this.losesAnswers = false;
    return isLost ? LOST : answer;
  }

  #answer(method: Method, path: string, body: { name: string }): Answer {
    if (method === 'POST') {
      this.rows.set(`${path}/${body.name}`, body);
      return { status: 201, body };
    }
    const found = this.rows.get(path);
    if (found === undefined) return { status: 404, body: { code: 'not-found' } };
    if (method === 'PATCH') this.rows.set(path, { ...found, ...body });
    if (method === 'DELETE') this.#remove(path, found);
    return { status: 200, body: this.rows.get(path) ?? found };
  }

  /** Of a token its revocation stays. */
  #remove(path: string, found: object): void {
    if (path.startsWith('tokens/')) this.rows.set(path, { ...found, state: 'revoked' });
    else this.rows.delete(path);
  }
}

async function afterSomeRounds(api: MemoryApi, losesAnswers: boolean): Promise<Facts> {
  const facts = new Facts(api);
  const random = new SeededRandom(4);
  for (let round = 1; round <= 8; round += 1) {
    api.losesAnswers = losesAnswers;
    await facts.perform(random, `r${round}`, { pauseMsMax: 0 });
    expect(await facts.check()).toMatchObject({ faults: [] });
  }
  return facts;
}

test.each([false, true])('answers got lost: %s; what is there is as it was told', async losesAnswers => {
  const api = new MemoryApi();
  await afterSomeRounds(api, losesAnswers);
  expect(api.rows.size).toBeGreaterThan(0);
});

test.each([false, true])('one rule of replication at a time, answers got lost: %s', async losesAnswers => {
  const api = new MemoryApi();
  const facts = new Facts(api);
  facts.adoptRepositories({ source: 'near', target: 'far' });
  const random = new SeededRandom(9);
  const rules = () => [...api.rows.keys()].filter(path => path.startsWith('replication-rules/'));
  const seen = new Set<string>();
  for (let round = 1; round <= 12; round += 1) {
    api.losesAnswers = losesAnswers;
    await facts.perform(random, `r${round}`, { pauseMsMax: 0 });
    expect(await facts.check()).toMatchObject({ faults: [] });
    expect(rules().length).toBeLessThan(2);
    for (const path of rules()) seen.add(path);
  }
  expect(seen.size).toBeGreaterThan(1);
});

test('what was told and is gone, or is another, is a fault', async () => {
  const api = new MemoryApi();
  const facts = await afterSomeRounds(api, false);
  const [gone, changed] = [...api.rows].filter(([path]) => !path.startsWith('tokens/')).map(([path]) => path);
  api.rows.delete(gone!);
  api.rows.set(changed!, { ...api.rows.get(changed!), name: 'other' });
  const { faults } = await facts.check();
  expect(faults).toHaveLength(2);
  expect(faults.join()).toContain(`${gone} was to be`);
});
