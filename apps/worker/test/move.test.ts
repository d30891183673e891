// Goal: a move whose copy goes with a restart of the storage node that it came to begins anew, wherever it was, and
// leaves the volume where it is when that happens too often. Method: a real worker and catalog, and scripted storage
// nodes that lose copies on command.
import { randomUUID } from 'node:crypto';
import { intendMove, type Run } from '@tidemark/catalog';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Fleet, poll } from './fleet.ts';

/** On a machine that others use as well. */
const PATIENCE_MS = 150_000;
const TIMEOUT = { timeout: 300_000 };

let fleet: Fleet;

beforeEach(async () => {
  fleet = await Fleet.open();
  await fleet.startWorker({ monitorMs: 6_000, statusTimeoutMs: 5_000 });
  await fleet.furnish();
}, 120_000);
afterEach(() => fleet.close());

async function move(): Promise<Run> {
  const wanted = { volume: 'disk', storageNode: 'beta' };
  return (await fleet.catalog.transaction(tx => intendMove(tx, randomUUID(), wanted))).run;
}

const ended = (run: Run) =>
  poll(
    'the move',
    async () => {
      const now = await fleet.catalog.runs.get(run.id);
      return now.finishedAt === null ? undefined : now;
    },
    PATIENCE_MS,
  );

const volume = () => fleet.catalog.volumes.get('disk');
const loseCopy = () => fleet.beta.moves.forget();

/** When the target restarts, which it does once. */
const MOMENTS: Record<string, () => void | Promise<void>> = {
  'before the copy begins': () => {
    fleet.beta.afterNext.set('prepareArrival', loseCopy);
  },
  'in the middle of the copy': () => {
    fleet.alpha.holdJobs = true;
    fleet.alpha.afterNext.set('startMove', () => {
      loseCopy();
      fleet.alpha.holdJobs = false;
    });
  },
  'before the seal': () => {
    fleet.alpha.moves.beforeSeal = () => {
      fleet.alpha.moves.beforeSeal = () => {};
      loseCopy();
    };
  },
  'after the seal': () => {
    fleet.alpha.afterNext.set('sealVolume', loseCopy);
  },
};

test.each(Object.keys(MOMENTS))('a target that restarts %s gets another copy', TIMEOUT, async moment => {
  const { alpha, beta, nodeIds } = fleet;
  await MOMENTS[moment]!();
  const run = await ended(await move());
  expect([run.state, run.error, run.restarts]).toEqual(['succeeded', null, 1]);
  expect(await volume()).toMatchObject({ storageNodeId: nodeIds.beta, state: 'ready' });
  expect([alpha.volumes.size, beta.volumes.size, beta.moves.arriving]).toEqual([0, 1, 0]);
  expect([...alpha.jobs.keys()]).toEqual([]);
});

test(
  'a copy that was made anew, of which no answer came, is not taken for the one that was lost',
  TIMEOUT,
  async () => {
    const { alpha, beta, nodeIds } = fleet;
    alpha.afterNext.set('sealVolume', () => {
      loseCopy();
      // Asked whether it still has the copy, the target makes an empty one, and cannot say so.
      beta.fail('prepareArrival', 'storage-node-unreachable', { times: 1, afterwards: true });
    });
    const run = await ended(await move());
    expect([run.state, run.error, run.restarts]).toEqual(['succeeded', null, 1]);
    expect(await volume()).toMatchObject({ storageNodeId: nodeIds.beta, state: 'ready' });
    expect(alpha.callsOf('startMove')).toHaveLength(2);
  },
);

test('one that loses each copy ends the move, and the volume stays', TIMEOUT, async () => {
  const { alpha, beta, nodeIds } = fleet;
  const id = (await volume()).id;
  alpha.moves.beforeSeal = () => alpha.afterNext.set('sealVolume', loseCopy);
  const run = await ended(await move());
  expect([run.state, run.error?.code, run.restarts]).toEqual(['failed', 'volume-not-found', 3]);
  expect(await volume()).toMatchObject({ storageNodeId: nodeIds.alpha, state: 'ready' });
  expect([alpha.volumes.has(id), alpha.moves.sealed.size, beta.moves.arriving]).toEqual([true, 0, 0]);
});

test('what fails though the target has the copy is not begun anew', TIMEOUT, async () => {
  fleet.alpha.fail('sealVolume', 'image-invalid', { times: 1 });
  const run = await ended(await move());
  expect([run.state, run.error?.code, run.restarts]).toEqual(['failed', 'image-invalid', 0]);
  expect(fleet.beta.moves.arriving).toBe(0);
});
