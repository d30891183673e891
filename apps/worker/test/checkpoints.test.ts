// Goal: checkpoints are dropped only for a new one that is safe, names reach the storage node, and a lost catalog gets
// its checkpoints back, all or none. Method: a real worker and catalog; storage nodes that fail on command.
import { randomUUID } from 'node:crypto';
import type { JsonObject, Run } from '@tidemark/catalog';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Fleet, poll } from './fleet.ts';

let fleet: Fleet;
let volumeId: string;

beforeEach(async () => {
  fleet = await Fleet.open();
  await fleet.startWorker();
  await fleet.furnish();
  volumeId = (await fleet.catalog.volumes.get('disk')).id;
});
afterEach(() => fleet.close());

function take(name: string, dropCheckpointIds: string[] = []): Promise<Run> {
  const checkpointId = randomUUID();
  return fleet.ask('create-checkpoint', { checkpointId, name, dropCheckpointIds }, async () => {
    await fleet.catalog.checkpoints.create({ id: checkpointId, volumeId, name });
  });
}

/** Marked as the api does it. */
async function doomed(...names: string[]): Promise<string[]> {
  const ids: string[] = [];
  for (const name of names) {
    const { id } = await fleet.catalog.checkpoints.get(volumeId, name);
    await fleet.catalog.checkpoints.markDeleting(id, randomUUID());
    ids.push(id);
  }
  return ids;
}

const states = async () => {
  const { items } = await fleet.catalog.checkpoints.list(volumeId);
  return items.map(({ name, state }) => `${name} ${state}`);
};
const live = () => [...fleet.alpha.checkpoints.values()].map(({ name }) => name);

describe('the oldest goes for a new one', () => {
  beforeEach(async () => {
    for (const name of ['one', 'two']) await fleet.succeed(await take(name));
  });

  test('once the new one is there, and the result names it', async () => {
    const ids = await doomed('one', 'two');
    const run = await fleet.succeed(await take('three', ids));
    expect(run.result).toMatchObject({
      dropped: [
        { id: ids[0], name: 'one' },
        { id: ids[1], name: 'two' },
      ],
      notDropped: [],
    });
    expect(await states()).toEqual(['three ready']);
    expect(live()).toEqual(['three']);
    const order = fleet.alpha.calls.map(({ method }) => method).filter(method => /Checkpoint$/.test(method));
    expect(order.slice(-3)).toEqual(['createCheckpoint', 'deleteCheckpoint', 'deleteCheckpoint']);
  });

  test('not when the new one cannot be taken', async () => {
    fleet.alpha.fail('createCheckpoint', 'storage-full');
    const run = await fleet.end(await take('three', await doomed('one')));
    expect([run.state, run.error?.code]).toEqual(['failed', 'storage-full']);
    expect(await states()).toEqual(['one ready', 'two ready']);
    expect(live()).toEqual(['one', 'two']);
  });

  test('not when the storage node does not let go of it: the new one stays, and the result says why', async () => {
    fleet.alpha.fail('deleteCheckpoint', 'volume-busy', { times: 1 });
    const ids = await doomed('one', 'two');
    const run = await fleet.succeed(await take('three', ids));
    expect(run.result).toMatchObject({
      dropped: [{ name: 'two' }],
      notDropped: [{ id: ids[0], name: 'one', reason: expect.stringContaining('deleteCheckpoint') }],
    });
    expect(await states()).toEqual(['one ready', 'three ready']);
  });

  test('also when the storage node was away for a moment, or its answer got lost', async () => {
    fleet.alpha.fail('deleteCheckpoint', 'io-error', { times: 1 });
    fleet.alpha.fail('deleteCheckpoint', 'io-error', { times: 1, afterwards: true });
    const run = await fleet.succeed(await take('three', await doomed('one')));
    expect(run.result).toMatchObject({ dropped: [{ name: 'one' }], notDropped: [] });
    expect(await states()).toEqual(['two ready', 'three ready']);
    expect(live()).toEqual(['two', 'three']);
  });

  test('for a backup once that is published, and not for one that failed', async () => {
    const ids = await doomed('one');
    fleet.alpha.failJobs({ code: 'io-error', message: 'no luck' });
    const failed = await fleet.end(await fleet.backup('three', 'full', ids));
    expect(failed.state).toBe('failed');
    expect(await states()).toEqual(['one ready', 'two ready']);
  });

  test('for a backup that succeeds', async () => {
    const ids = await doomed('one');
    const run = await fleet.succeed(await fleet.backup('three', 'full', ids));
    expect(run.result).toMatchObject({ dropped: [{ id: ids[0], name: 'one' }] });
    expect(await states()).toEqual(['two ready', 'three ready']);
    const steps = run.steps.map(({ name }) => name);
    expect(steps.indexOf('drop-checkpoints')).toBe(steps.indexOf('publish') + 1);
  });
});

/** As the api does it: the catalog first. */
async function update(name: string, texts: { name: string; description: string }): Promise<Run> {
  const { id: checkpointId, description } = await fleet.catalog.checkpoints.get(volumeId, name);
  const request = { checkpointId, ...texts, previous: { name, description } };
  return fleet.ask('update-checkpoint', request, async runId => {
    await fleet.catalog.checkpoints.update(checkpointId, texts, runId);
  });
}

describe('a new name', () => {
  beforeEach(async () => {
    await fleet.succeed(await take('one'));
  });

  test('reaches the storage node', async () => {
    await fleet.succeed(await update('one', { name: 'first', description: 'x' }));
    expect([...fleet.alpha.checkpoints.values()]).toMatchObject([{ name: 'first', description: 'x' }]);
  });

  test('is taken back when the storage node refuses it', async () => {
    fleet.alpha.fail('updateCheckpoint', 'checkpoint-name-taken');
    const run = await fleet.end(await update('one', { name: 'first', description: 'x' }));
    expect(run.error?.code).toBe('checkpoint-name-taken');
    expect(await fleet.catalog.checkpoints.get(volumeId, 'one')).toMatchObject({ description: '' });
  });

  test('is taken back there too when it had reached the storage node all the same', async () => {
    fleet.alpha.fail('updateCheckpoint', 'invalid-name', { times: 1, afterwards: true });
    fleet.alpha.fail('updateCheckpoint', 'io-error', { times: 1 });
    const run = await fleet.end(await update('one', { name: 'first', description: 'x' }));
    expect([run.state, run.error?.code]).toEqual(['failed', 'invalid-name']);
    expect(await states()).toEqual(['one ready']);
    // The storage node could not be told at first.
    await poll('the old name', async () => (live().includes('one') ? true : undefined));
    expect([...fleet.alpha.checkpoints.values()]).toMatchObject([{ name: 'one', description: '' }]);
  });

  test('is not taken back from one that was changed again since', async () => {
    fleet.alpha.hang('updateCheckpoint');
    const run = await update('one', { name: 'first', description: 'x' });
    const { id } = await fleet.catalog.checkpoints.get(volumeId, 'first');
    await fleet.until(run, ({ steps }) => steps.length > 0);
    await fleet.catalog.checkpoints.update(id, { name: 'second' }, null);
    await fleet.stopWorkers();
    fleet.alpha.heal();
    fleet.alpha.fail('updateCheckpoint', 'invalid-name', { times: 1 });
    await fleet.startWorker();
    expect((await fleet.end(run)).state).toBe('failed');
    expect(await fleet.catalog.checkpoints.get(volumeId, 'second')).toMatchObject({ description: '' });
    expect(live()).toEqual(['second']);
  });
});

describe('CP-06 after the catalog was lost', () => {
  const request: JsonObject = { definitions: null, validateOnly: false, allowInconsistent: false };
  const redefine = (more: JsonObject = {}) => fleet.ask('redefine-checkpoints', { ...request, ...more });

  beforeEach(async () => {
    for (const name of ['one', 'two', 'three']) await fleet.succeed(await take(name));
    for (const { id } of (await fleet.catalog.checkpoints.list(volumeId)).items) {
      await fleet.catalog.checkpoints.delete(id, null);
    }
  });

  test('its checkpoints come back, with their points in time and in their order', async () => {
    const run = await fleet.succeed(await redefine());
    const { items } = await fleet.catalog.checkpoints.list(volumeId);
    const stored = [...fleet.alpha.checkpoints.values()];
    expect(items.map(({ id, name, state }) => [id, name, state])).toEqual(
      stored.map(({ checkpointId, name }) => [checkpointId, name, 'ready']),
    );
    expect(items.map(({ pointInTime }) => pointInTime?.getTime())).toEqual(
      stored.map(({ createdAtMs }) => createdAtMs),
    );
    expect(run.result).toMatchObject({ checkpoints: [{ name: 'one' }, { name: 'two' }, { name: 'three' }] });
    const again = await fleet.succeed(await redefine());
    expect(again.result).toMatchObject({ checkpoints: [], missing: [] });
  });

  test('validation alone changes nothing', async () => {
    const run = await fleet.succeed(await redefine({ validateOnly: true }));
    expect(run.result).toMatchObject({ validateOnly: true, checkpoints: [{}, {}, {}] });
    expect(await states()).toEqual([]);
  });

  test('what does not validate leaves everything as it was', async () => {
    [...fleet.alpha.checkpoints.values()][1]!.inconsistent = true;
    const run = await fleet.end(await redefine());
    expect([run.state, run.error?.code]).toEqual(['failed', 'checkpoint-inconsistent']);
    expect(run.error?.message).toContain("'two'");
    expect(await states()).toEqual([]);
    await fleet.succeed(await redefine({ allowInconsistent: true }));
    expect(await states()).toEqual(['one ready', 'two ready', 'three ready']);
  });

  test('new names are told to the storage node, and rows that it does not know are reported', async () => {
    await fleet.catalog.checkpoints.create({ id: randomUUID(), volumeId, name: 'ghost' });
    const ghost = await fleet.catalog.checkpoints.get(volumeId, 'ghost');
    await fleet.catalog.checkpoints.markReady(ghost.id, new Date(), null);
    const last = [...fleet.alpha.checkpoints.keys()].at(-1)!;
    const definitions = [{ checkpointId: last, name: 'again', description: 'kept' }];
    const run = await fleet.succeed(await redefine({ definitions }));
    expect(run.result).toMatchObject({ checkpoints: [{ name: 'again' }], missing: [{ name: 'ghost' }] });
    expect((await states()).toSorted()).toEqual(['again ready', 'ghost ready']);
    await poll('its name', async () => (live().includes('again') ? true : undefined));
  });
});
