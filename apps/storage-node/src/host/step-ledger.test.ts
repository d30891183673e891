// Goal: what must not happen twice does not, and replaced workers are refused, also after a restart.
// Method: a real state directory, actions that count how often they ran.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { TidemarkError } from '@tidemark/proto';
import { expect, onTestFinished, test } from 'vitest';
import { LEDGER_RUN_AGE_MAX_MS, LEDGER_STEPS_MAX } from '../limits.ts';
import { temporaryFolder } from '../testing/temporary-folder.ts';
import { StateStore } from './state-store.ts';
import { StepLedger } from './step-ledger.ts';

const once = { method: '/svc/Start', repeat: 'answer-again' } as const;

async function openLedger(options: { folder?: string; now?: () => number; runsMax?: number } = {}) {
  const store = new StateStore({ folder: options.folder ?? (await temporaryFolder()) });
  await store.open();
  onTestFinished(() => store.close());
  const ledger = new StepLedger({ store, now: () => 1000, ...options });
  await ledger.load();
  return { store, ledger };
}

/** An action that answers how many times it ran. */
function counter() {
  let runs = 0;
  return Object.assign(async () => Buffer.from(`${++runs}`), { runs: () => runs });
}

test('a repeated step is answered as before, also after a restart and for a newer epoch', async () => {
  const { store, ledger } = await openLedger();
  const action = counter();
  const key = { runId: 'run-a', step: 'start', leaseEpoch: 1 };
  expect(String(await ledger.perform(key, once, action))).toBe('1');
  expect(String(await ledger.perform(key, once, action))).toBe('1');
  await store.close();
  const { ledger: later } = await openLedger({ folder: store.folder });
  expect(String(await later.perform({ ...key, leaseEpoch: 2 }, once, action))).toBe('1');
  expect(action.runs()).toBe(1);
});

test('steps of one name are kept apart by method, and runs from each other', async () => {
  const { ledger } = await openLedger();
  const action = counter();
  const key = { runId: 'run-a', step: 'start', leaseEpoch: 1 };
  await ledger.perform(key, once, action);
  expect(String(await ledger.perform(key, { ...once, method: '/svc/Stop' }, action))).toBe('2');
  expect(String(await ledger.perform({ ...key, runId: 'run-b' }, once, action))).toBe('3');
});

test('an older epoch is refused, also after a restart and even if the newer step failed', async () => {
  const { store, ledger } = await openLedger();
  const key = { runId: 'run-a', step: 'start', leaseEpoch: 5 };
  const failing = async () => {
    throw new TidemarkError('volume-busy', 'busy');
  };
  await expect(ledger.perform(key, once, failing)).rejects.toMatchObject({ code: 'volume-busy' });
  const stale = { ...key, step: 'other', leaseEpoch: 4 };
  await expect(ledger.perform(stale, once, counter())).rejects.toMatchObject({ code: 'run-superseded' });
  await store.close();
  const { ledger: later } = await openLedger({ folder: store.folder });
  await expect(later.perform(stale, once, counter())).rejects.toMatchObject({ code: 'run-superseded' });
});

test('a failed step is done again', async () => {
  const { ledger } = await openLedger();
  const key = { runId: 'run-a', step: 'start', leaseEpoch: 1 };
  await expect(ledger.perform(key, once, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  expect(String(await ledger.perform(key, once, counter()))).toBe('1');
});

test.each(['answer-again', 'do-again'] as const)(
  'repeats at the same time join the first (%s)',
  async repeat => {
    const { ledger } = await openLedger();
    const gate = Promise.withResolvers<void>();
    let runs = 0;
    const slow = async () => {
      runs++;
      await gate.promise;
      return Buffer.from('done');
    };
    const key = { runId: 'run-a', step: 'start', leaseEpoch: 1 };
    const repeats = [1, 1, 2].map(leaseEpoch =>
      ledger.perform({ ...key, leaseEpoch }, { method: '/svc/Start', repeat }, slow),
    );
    gate.resolve();
    expect((await Promise.all(repeats)).map(String)).toEqual(['done', 'done', 'done']);
    expect(runs).toBe(1);
  },
);

test('what is good to repeat is done each time but keeps its epoch check', async () => {
  const { ledger } = await openLedger();
  const action = counter();
  const again = { method: '/svc/Open', repeat: 'do-again' } as const;
  const key = { runId: 'run-a', step: 'open', leaseEpoch: 2 };
  await ledger.perform(key, again, action);
  expect(String(await ledger.perform(key, again, action))).toBe('2');
  await expect(ledger.perform({ ...key, leaseEpoch: 1 }, again, action)).rejects.toMatchObject({
    code: 'run-superseded',
  });
});

test('a run may forget its answers but not its epoch', async () => {
  const { ledger } = await openLedger();
  const action = counter();
  const key = { runId: 'run-a', step: 'start', leaseEpoch: 2 };
  await ledger.perform(key, once, action);
  await ledger.forgetAnswers('run-a');
  expect(String(await ledger.perform(key, once, action))).toBe('2');
  await expect(ledger.perform({ ...key, leaseEpoch: 1 }, once, action)).rejects.toMatchObject({
    code: 'run-superseded',
  });
});

test('the memory is bounded: runs by number and age, steps by number', async () => {
  let nowMs = 1000;
  const { store, ledger } = await openLedger({ now: () => nowMs, runsMax: 3 });
  for (const runId of ['a', 'b', 'c', 'a', 'd']) {
    nowMs++;
    await ledger.perform({ runId, step: 'start', leaseEpoch: 1 }, once, counter());
  }
  const stored = () => readdir(join(store.folder, 'runs'));
  expect(await stored()).toEqual(['a.json', 'c.json', 'd.json']);
  nowMs += LEDGER_RUN_AGE_MAX_MS + 1;
  for (let step = 0; step <= LEDGER_STEPS_MAX; step++) {
    await ledger.perform({ runId: 'e', step: `${step}`, leaseEpoch: 1 }, once, counter());
  }
  expect(await stored()).toEqual(['e.json']);
  const again = counter();
  await ledger.perform({ runId: 'e', step: '1', leaseEpoch: 1 }, once, again);
  expect(again.runs()).toBe(0);
  await ledger.perform({ runId: 'e', step: '0', leaseEpoch: 1 }, once, again);
  expect(again.runs()).toBe(1);
});

test.each([
  { runId: '', step: 'start', leaseEpoch: 1 },
  { runId: '../../etc', step: 'start', leaseEpoch: 1 },
  { runId: 'run-a', step: '', leaseEpoch: 1 },
  { runId: 'run-a', step: 'start', leaseEpoch: -1 },
])('a call without a usable key is refused: %j', async key => {
  const { ledger } = await openLedger();
  await expect(ledger.perform(key, once, counter())).rejects.toMatchObject({ code: 'invalid-request' });
});
