// Goal: what must not happen twice does not, and replaced workers are refused, also after a restart.
// Method: a real state directory, actions that count how often they ran.
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EngineError } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { expect, onTestFinished, test } from 'vitest';
import { LEDGER_RUN_AGE_MAX_MS, LEDGER_STEPS_MAX } from '../limits.ts';
import { temporaryFolder } from '../testing/temporary-folder.ts';
import { StateStore } from './state-store.ts';
import { StepLedger } from './step-ledger.ts';

const once = { method: '/svc/Start', repeat: 'answer-again' } as const;

async function openLedger(options: { folder?: string; elapsedMs?: () => number; runsMax?: number } = {}) {
  const store = new StateStore({ folder: options.folder ?? (await temporaryFolder()) });
  await store.open();
  onTestFinished(() => store.close());
  const problems: string[] = [];
  const report = ({ file }: { file: string }) => void problems.push(file);
  const ledger = new StepLedger({ store, elapsedMs: () => 1000, report, ...options });
  await ledger.load();
  return { store, ledger, problems };
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
    const repeats = [1, 1].map(leaseEpoch =>
      ledger.perform({ ...key, leaseEpoch }, { method: '/svc/Start', repeat }, slow),
    );
    gate.resolve();
    expect((await Promise.all(repeats)).map(String)).toEqual(['done', 'done']);
    expect(runs).toBe(1);
  },
);

test('a newer attempt waits for the step of the older one, and does its own', async () => {
  const { ledger } = await openLedger();
  const gate = Promise.withResolvers<void>();
  const order: string[] = [];
  const key = { runId: 'run-a', step: 'continue', leaseEpoch: 1 };
  const again = { method: '/svc/Continue', repeat: 'do-again' } as const;
  const older = ledger.perform(key, again, async () => {
    await gate.promise;
    order.push('older');
    throw new TidemarkError('io-error', 'the old target is gone');
  });
  const newer = [2, 2].map(leaseEpoch =>
    ledger.perform({ ...key, leaseEpoch }, again, async () => {
      order.push('newer');
      return Buffer.from('new target');
    }),
  );
  gate.resolve();
  await expect(older).rejects.toThrow('the old target is gone');
  expect((await Promise.all(newer)).map(String)).toEqual(['new target', 'new target']);
  expect(order).toEqual(['older', 'newer']);
});

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
  const { store, ledger } = await openLedger({ elapsedMs: () => nowMs, runsMax: 3 });
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

test('on a full disk steps that make room are done, and the fence holds in memory', async () => {
  let isFull = true;
  class FullStore extends StateStore {
    override write(name: string, value: unknown): Promise<void> {
      const full = new EngineError('io', 'no room', { errno: 'ENOSPC' });
      return isFull ? Promise.reject(full) : super.write(name, value);
    }
  }
  const store = new FullStore({ folder: await temporaryFolder() });
  await store.open();
  onTestFinished(() => store.close());
  const ledger = new StepLedger({ store, elapsedMs: () => 1000, report: () => undefined });
  const key = { runId: 'run-a', step: 'discard', leaseEpoch: 2 };
  const makesRoom = async () => {
    isFull = false;
    return Buffer.from('done');
  };
  expect(String(await ledger.perform(key, once, makesRoom))).toBe('done');
  await expect(ledger.perform({ ...key, leaseEpoch: 1 }, once, counter())).rejects.toMatchObject({
    code: 'run-superseded',
  });
  // An answer that cannot be stored is an error, but what was done is not done twice.
  isFull = true;
  const action = counter();
  const start = { ...key, step: 'start' };
  await expect(ledger.perform(start, once, action)).rejects.toMatchObject({ kind: 'io' });
  expect(String(await ledger.perform(start, once, action))).toBe('1');
});

test('a damaged file is reported, costs its own run only and is replaced', async () => {
  const { store, ledger } = await openLedger();
  const key = { step: 'start', leaseEpoch: 1 };
  for (const runId of ['run-a', 'run-b']) await ledger.perform({ ...key, runId }, once, counter());
  await writeFile(join(store.folder, 'runs/run-a.json'), '{');
  await store.close();
  const later = await openLedger({ folder: store.folder });
  expect(later.problems).toEqual(['runs/run-a.json']);
  const action = counter();
  await later.ledger.perform({ ...key, runId: 'run-b' }, once, action);
  expect(action.runs()).toBe(0);
  await later.ledger.perform({ ...key, runId: 'run-a' }, once, action);
  await later.store.close();
  expect((await openLedger({ folder: store.folder })).problems).toEqual([]);
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

test('age counts while a storage node runs, whatever the wall clock says, and over restarts', async () => {
  let elapsedMs = 5_000_000;
  const first = await openLedger({ elapsedMs: () => elapsedMs });
  await first.ledger.perform({ runId: 'old', step: 'start', leaseEpoch: 1 }, once, counter());
  elapsedMs += LEDGER_RUN_AGE_MAX_MS / 2;
  await first.ledger.perform({ runId: 'new', step: 'start', leaseEpoch: 1 }, once, counter());
  await first.store.close();
  // Another process counts from another moment.
  elapsedMs = 7;
  const { store, ledger } = await openLedger({ folder: first.store.folder, elapsedMs: () => elapsedMs });
  const stored = () => readdir(join(store.folder, 'runs'));
  expect(await stored()).toEqual(['new.json', 'old.json']);
  elapsedMs += LEDGER_RUN_AGE_MAX_MS / 2 + 1;
  await ledger.perform({ runId: 'newest', step: 'start', leaseEpoch: 1 }, once, counter());
  expect(await stored()).toEqual(['new.json', 'newest.json']);
});
