// Goal: a run shows what was asked of it and what is left of it, and who cancels learns what cannot be undone.
// Method: a whole api, with a hand for a worker.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestApi } from './support/test-api.ts';

let api: TestApi;
let backup: { id: string };

beforeAll(async () => {
  api = await TestApi.start();
  await api.storageNode('alpha');
  await api.repository('nightly', 'alpha');
  await api.volume('web', 'alpha');
  backup = await api.backup({ volume: 'web', repository: 'nightly', kind: 'full', checkpoint: 'monday' });
});

afterAll(() => api.close());

const restore = (target: object) => api.call('POST', '/v1/restores', { backup: backup.id, target });

/** What a cancelled run leaves, as it shows itself. */
async function cancelled(runId: string, step?: string): Promise<string> {
  const worker = await api.worker(runId);
  if (step !== undefined) await worker.step(step);
  expect((await api.call('GET', `/v1/runs/${runId}`)).body.ending).toBeNull();
  await worker.cancel();
  return (await api.call('GET', `/v1/runs/${runId}`)).body.ending;
}

test('a cancelled restore over a volume says that contents are mixed, unless it had not begun', async () => {
  const inPlace = { inPlace: { volume: 'web' } };
  const { id } = (await restore(inPlace)).body.run;
  expect(await cancelled(id, 'start')).toBe(
    `The restore run ${id} was cancelled. Volume 'web' may hold a mixture of its old contents and the backup's: ` +
      'run the restore again, or restore another backup over it.',
  );
  const early = (await restore(inPlace)).body.run.id;
  expect(await cancelled(early)).toBe(
    `The restore run ${early} was cancelled, and what it had made is undone.`,
  );
});

test('a caller that waits is told the same', async () => {
  const call = api.call('POST', '/v1/restores?wait=done', {
    backup: backup.id,
    target: { inPlace: { volume: 'web' } },
  });
  await expect.poll(async () => (await queued()).length).toBe(1);
  const [run] = await queued();
  const ending = await cancelled(run!.id, 'start');
  expect((await call).body).toMatchObject({ code: 'run-cancelled', detail: ending });
});

async function queued(): Promise<{ id: string }[]> {
  return (await api.call('GET', '/v1/runs?state=queued')).body.items;
}

test('a cancelled prune says that what was removed stays gone', async () => {
  const { body } = await api.call('POST', '/v1/prune', { repository: 'nightly', keep: { last: 1 } });
  expect(await cancelled(body.run.id)).toContain('Backups that it had removed by then stay gone');
});

test('what was asked of a run is shown', async () => {
  const { id } = (await api.call('POST', '/v1/exports', { volume: 'web' })).body.run;
  const fresh = { cancelRequested: false, undoing: false, cleanupPending: false, finishRequested: false };
  expect((await api.call('GET', `/v1/runs/${id}`)).body).toMatchObject(fresh);
  const finish = await api.call('POST', `/v1/runs/${id}/finish`);
  expect(finish.body.run).toMatchObject({ ...fresh, finishRequested: true });
  const cancel = await api.call('POST', `/v1/runs/${id}/cancel`);
  expect(cancel.body.run).toMatchObject({ ...fresh, finishRequested: true, cancelRequested: true });
  const { leases } = api.app.catalog;
  const { lease } = (await leases.claim(id, { owner: 'test', leaseMs: 60_000, attempt: 1 }))!;
  const error = { code: 'run-cancelled', message: 'asked for' };
  await leases.beginUndo(lease, error);
  expect((await api.call('GET', `/v1/runs/${id}`)).body).toMatchObject({ undoing: true });
  await leases.finish(lease, { state: 'cancelled', error, cleanupInMs: 60_000 });
  expect((await api.call('GET', `/v1/runs/${id}`)).body).toMatchObject({ cleanupPending: true });
});

test('an instant restore is cancelled until its volume can be used, and not any more then', async () => {
  const { body } = await restore({ instant: { name: 'now', storageNode: 'alpha' } });
  const url = `/v1/runs/${body.run.id}/cancel`;
  const worker = await api.worker(body.run.id);
  await worker.reachCheckpoint();
  const refused = await api.refused('run-not-controllable', 'POST', url);
  expect(refused.detail).toContain(`Delete volume 'now' instead`);
  await worker.succeed();
  await api.refused('run-ended', 'POST', url);
  const early = await restore({ instant: { name: 'soon', storageNode: 'alpha' } });
  expect((await api.call('POST', `/v1/runs/${early.body.run.id}/cancel`)).status).toBe(202);
});
