// Goal: a run that ends every worker that touches it is given up, undone and says why, while one that only shared their
// fate goes on. Method: workers that die are played by claims whose leases run out; then a real worker finds the run.
import type { Run } from '@tidemark/catalog';
import { inDatabase } from '@tidemark/catalog/testing';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Fleet } from './fleet.ts';

const TAKEOVERS_MAX = 3;
let fleet: Fleet;
let clean: Awaited<ReturnType<Fleet['leftovers']>>;

beforeEach(async () => {
  fleet = await Fleet.open();
  await fleet.startWorker();
  await fleet.furnish();
  await fleet.stopWorkers();
  clean = await fleet.leftovers();
});
afterEach(() => fleet.close());

const runOut = ({ id }: Run) =>
  inDatabase(fleet.database.url, client =>
    client.query(`UPDATE run SET lease_until = now() - interval '1 second' WHERE id = $1`, [id]),
  );

/** A worker that goes silent in the named step, noticed by the dispatcher or by a queue job that comes twice. */
async function die(run: Run, step: string, noticed: 'dispatcher' | 'queue' = 'dispatcher'): Promise<void> {
  const { attempt } = await fleet.catalog.runs.get(run.id);
  const claimed = await fleet.catalog.leases.claim(run.id, { owner: 'dies', leaseMs: 60_000, attempt });
  await fleet.catalog.leases.startStep(claimed!.lease, step);
  await runOut(run);
  if (noticed === 'dispatcher') await fleet.catalog.runs.takeOverExpired();
}

test('after so many workers in a row the run turns back, is undone, and tells why', async () => {
  const run = await fleet.backup('monday');
  await die(run, 'prepare-target');
  await die(run, 'prepare-target', 'queue');
  await die(run, 'prepare-target');
  expect((await fleet.catalog.runs.get(run.id)).takeovers).toBe(TAKEOVERS_MAX);
  await fleet.startWorker({ takeoversMax: TAKEOVERS_MAX });
  const ended = await fleet.end(run);
  expect(ended).toMatchObject({
    state: 'failed',
    cleanupPending: false,
    error: { code: 'run-loses-workers', message: expect.stringMatching(/3 workers in a row went silent/) },
  });
  expect(fleet.alpha.callsOf('startBackup')).toEqual([]);
  expect(await fleet.leftovers()).toEqual(clean);
});

test('progress in between counts, and fewer do not', async () => {
  const run = await fleet.backup('monday');
  await die(run, 'prepare-target');
  await die(run, 'prepare-target');
  const { attempt } = await fleet.catalog.runs.get(run.id);
  const claimed = await fleet.catalog.leases.claim(run.id, { owner: 'slow', leaseMs: 60_000, attempt });
  await fleet.catalog.leases.startStep(claimed!.lease, 'unlike-any-other');
  await fleet.catalog.leases.finishStep(claimed!.lease, 'unlike-any-other', {});
  await runOut(run);
  await fleet.catalog.runs.takeOverExpired();
  expect((await fleet.catalog.runs.get(run.id)).takeovers).toBe(1);
  await die(run, 'prepare-target');
  await fleet.startWorker({ takeoversMax: TAKEOVERS_MAX });
  const { takeovers } = await fleet.succeed(run);
  expect(takeovers).toBe(0);
});

test('undoing that ends workers, too, is left to cleaning up, and that ends as well', async () => {
  const run = await fleet.backup('monday');
  await die(run, 'prepare-target');
  const { attempt } = await fleet.catalog.runs.get(run.id);
  const claimed = await fleet.catalog.leases.claim(run.id, { owner: 'undoes', leaseMs: 60_000, attempt });
  await fleet.catalog.leases.beginUndo(claimed!.lease, { code: 'io-error', message: 'It failed.' });
  await runOut(run);
  await fleet.catalog.runs.takeOverExpired();
  await die(run, 'prepare-target');
  await die(run, 'prepare-target');
  const worker = await fleet.startWorker({ takeoversMax: TAKEOVERS_MAX });
  const ended = await fleet.end(run);
  expect(ended).toMatchObject({ state: 'failed', error: { code: 'io-error' } });
  await fleet.until(run, ({ cleanupPending }) => !cleanupPending);
  await fleet.stopWorker(worker);
  expect(await fleet.leftovers()).toEqual(clean);
});
