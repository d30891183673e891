// Goal: snapshots and commits come to what the storage node did, whatever answer gets lost, whoever restarts, and
// however long an operator thinks in between. Method: a real worker and catalog; a storage node that fails on command.
import type { CommitDecision, Run } from '@tidemark/catalog';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Fleet } from './fleet.ts';

const LOST = { times: 1, afterwards: true };
let fleet: Fleet;
let volumeId: string;

beforeEach(async () => {
  fleet = await Fleet.open();
  await fleet.startWorker();
  await fleet.furnish();
  volumeId = (await fleet.catalog.volumes.get('disk')).id;
});
afterEach(() => fleet.close());

async function snapshots(...names: string[]): Promise<string[]> {
  const runs: Run[] = [];
  for (const name of names) runs.push(await fleet.succeed(await fleet.snapshot(name)));
  return runs.map(run => String(run.request.snapshotId));
}

const commitOf = (run: Run) => fleet.catalog.commits.get(volumeId, String(run.request.commitId));

const askFor = (decision: CommitDecision, { request: { commitId } }: Run) =>
  fleet.ask('finish-commit', { commitId: commitId!, decision }, runId =>
    fleet.catalog.commits.decide(String(commitId), decision, runId),
  );

const readyCommit = async () => fleet.succeed(await fleet.commit());

/** In the catalog and on the storage node, which must agree. */
async function names(): Promise<string[]> {
  const { items } = await fleet.catalog.snapshots.list(volumeId);
  const rows = items.filter(({ state }) => state === 'ready').map(({ name }) => name);
  expect(rows).toEqual(fleet.alpha.snapshots.names(volumeId));
  return rows;
}

async function restartAlpha(): Promise<void> {
  fleet.alpha.stop();
  fleet.alpha.snapshots.forget();
  await fleet.alpha.start();
}

describe('a snapshot', () => {
  test('is ready with the moment that its storage node took', async () => {
    const run = await fleet.succeed(await fleet.snapshot('before'));
    expect(run.checkpointAt?.getTime()).toBe(1_700_000_000_000);
    const snapshot = await fleet.catalog.snapshots.get(volumeId, 'before');
    expect(snapshot).toMatchObject({ state: 'ready', pointInTime: run.checkpointAt });
    expect(run.result).toMatchObject({ snapshotId: snapshot.id });
  });

  test('whose answer got lost is taken once', async () => {
    fleet.alpha.fail('createSnapshot', 'storage-node-unreachable', LOST);
    await fleet.succeed(await fleet.snapshot('before'));
    expect(await names()).toEqual(['before']);
  });

  test('that is refused leaves its name free', async () => {
    fleet.alpha.fail('createSnapshot', 'snapshot-limit', { times: 1 });
    const run = await fleet.end(await fleet.snapshot('before'));
    expect([run.state, run.error?.code]).toEqual(['failed', 'snapshot-limit']);
    expect(await names()).toEqual([]);
    await snapshots('before');
  });

  test('that came to be although nobody was told is shown, as soon as it is found', async () => {
    fleet.alpha.fail('createSnapshot', 'storage-node-unreachable', { afterwards: true });
    const run = await fleet.end(await fleet.snapshot('before'));
    expect([run.state, run.cleanupPending]).toEqual(['failed', false]);
    expect(await names()).toEqual(['before']);
    fleet.alpha.fail('listSnapshots', 'storage-node-unreachable');
    const second = await fleet.end(await fleet.snapshot('second'));
    expect([second.state, second.cleanupPending]).toEqual(['failed', true]);
    expect(await fleet.catalog.snapshots.find(volumeId, 'second')).toBeNull();
    fleet.alpha.heal();
    await fleet.until(second, ({ cleanupPending }) => !cleanupPending);
    expect(await names()).toEqual(['before', 'second']);
  });
});

describe('the commit of a snapshot', () => {
  test('ends by itself, and what it overwrote is no longer listed', async () => {
    const [one, two] = await snapshots('one', 'two', 'three');
    const run = await fleet.succeed(await fleet.commit({ topSnapshotId: two! }));
    expect(await names()).toEqual(['two', 'three']);
    expect(run.result).toEqual({ commitId: run.request.commitId, state: 'done' });
    expect(run.progress).toMatchObject({ currentBytes: 4096, totalBytes: 4096 });
    expect(await commitOf(run)).toMatchObject({ state: 'done', lostSnapshots: [{ id: one, name: 'one' }] });
    expect(fleet.alpha.jobs.size).toBe(0);
  });

  test.each([['startCommit'], ['listSnapshots'], ['dismissJob']])(
    'goes on after a lost answer of %s, and merges once',
    async method => {
      const [, two] = await snapshots('one', 'two');
      fleet.alpha.fail(method, 'storage-node-unreachable', LOST);
      const run = await fleet.succeed(await fleet.commit({ topSnapshotId: two! }));
      expect([(await commitOf(run)).state, run.failures]).toEqual(['done', 1]);
      expect(fleet.alpha.snapshots.mergedIds).toEqual([run.request.commitId]);
      expect(await names()).toEqual(['two']);
    },
  );

  test('that is refused changes nothing', async () => {
    const [one] = await snapshots('one');
    fleet.alpha.fail('startCommit', 'commit-invalid');
    const run = await fleet.end(await fleet.commit({ topSnapshotId: one! }));
    expect([run.state, run.error?.code]).toEqual(['failed', 'commit-invalid']);
    expect(await commitOf(run)).toMatchObject({ state: 'failed', error: run.error, lostSnapshots: [] });
    expect(await names()).toEqual(['one']);
  });

  test('is cancelled by its run; what its start overwrote stays lost, and a new one may start', async () => {
    const [one, two] = await snapshots('one', 'two');
    fleet.alpha.holdJobs = true;
    const copying = ({ progress }: Run) => progress.currentBytes > 0;
    const run = await fleet.until(await fleet.commit({ topSnapshotId: two! }), copying);
    expect((await commitOf(run)).state).toBe('copying');
    await fleet.catalog.runs.requestCancel(run.id);
    const ended = await fleet.end(run);
    expect([ended.state, ended.cleanupPending]).toEqual(['cancelled', false]);
    expect(await commitOf(run)).toMatchObject({ state: 'cancelled', lostSnapshots: [{ id: one }] });
    expect(await names()).toEqual(['two']);
    expect([fleet.alpha.jobs.size, fleet.alpha.snapshots.mergedIds]).toEqual([0, []]);
    fleet.alpha.holdJobs = false;
    await fleet.succeed(await fleet.commit());
  });

  test('whose start got lost, and that is cancelled, leaves no job', async () => {
    const [, two] = await snapshots('one', 'two');
    fleet.alpha.holdJobs = true;
    fleet.alpha.fail('startCommit', 'internal-error', LOST);
    const ended = await fleet.end(await fleet.commit({ topSnapshotId: two! }));
    expect([ended.state, ended.error?.code]).toEqual(['failed', 'internal-error']);
    expect(await commitOf(ended)).toMatchObject({ state: 'failed', lostSnapshots: [{ name: 'one' }] });
    expect([fleet.alpha.jobs.size, await names()]).toEqual([0, ['two']]);
  });
});

describe('the commit of what the guest writes to', () => {
  test('waits when it is ready, and holds up no worker; pivot ends it', async () => {
    await snapshots('one', 'two');
    const run = await readyCommit();
    expect(run.result).toMatchObject({ state: 'ready' });
    expect(await commitOf(run)).toMatchObject({
      state: 'ready',
      decision: null,
      lostSnapshots: [{ name: 'one' }, { name: 'two' }],
    });
    expect([fleet.alpha.jobs.size, await names()]).toEqual([1, []]);
    fleet.alpha.holdJobs = true;
    const pivot = await askFor('pivot', run);
    await fleet.until(pivot, ({ steps }) => steps.some(({ name }) => name === 'conclude'));
    expect((await commitOf(run)).state).toBe('pivoting');
    fleet.alpha.holdJobs = false;
    expect((await fleet.succeed(pivot)).result).toMatchObject({ decision: 'pivot' });
    expect(await commitOf(run)).toMatchObject({ state: 'done', decision: 'pivot' });
    expect([fleet.alpha.jobs.size, fleet.alpha.snapshots.mergedIds]).toEqual([0, [run.request.commitId]]);
  });

  test('keep leaves the guest where it is', async () => {
    await snapshots('one');
    const run = await readyCommit();
    await fleet.succeed(await askFor('keep', run));
    expect(await commitOf(run)).toMatchObject({ state: 'done', decision: 'keep' });
    expect([fleet.alpha.jobs.size, fleet.alpha.snapshots.mergedIds]).toEqual([0, []]);
  });

  test.each([['finishCommit'], ['dismissJob']])('goes on after a lost answer of %s', async method => {
    await snapshots('one');
    const run = await readyCommit();
    fleet.alpha.fail(method, 'storage-node-unreachable', LOST);
    expect((await fleet.succeed(await askFor('pivot', run))).failures).toBe(1);
    expect(fleet.alpha.snapshots.mergedIds).toEqual([run.request.commitId]);
    expect((await commitOf(run)).state).toBe('done');
  });

  test('is over when its storage node restarted while it waited, and the error says what to do', async () => {
    await snapshots('one');
    const run = await readyCommit();
    await restartAlpha();
    const ended = await fleet.end(await askFor('keep', run));
    expect([ended.state, ended.error?.code]).toEqual(['failed', 'commit-not-found']);
    expect(ended.error?.message).toMatch(
      /alpha was restarted.*goes on where it was.*begins with its first phase/,
    );
    expect(await commitOf(run)).toMatchObject({ state: 'failed', error: ended.error });
    await fleet.succeed(await askFor('pivot', await readyCommit()));
  });

  test('is over when its storage node restarts between decision and end', async () => {
    await snapshots('one');
    const run = await readyCommit();
    fleet.alpha.holdJobs = true;
    const pivot = await askFor('pivot', run);
    await fleet.until(pivot, ({ steps }) => steps.some(({ name }) => name === 'conclude'));
    await restartAlpha();
    const ended = await fleet.end(pivot);
    expect([ended.state, ended.error?.code]).toEqual(['failed', 'job-interrupted']);
    expect(ended.error?.message).toMatch(/in the base if the pivot was recorded/);
    expect((await commitOf(run)).state).toBe('failed');
  });

  test('that its storage node lost while it copied fails, and the next one begins anew', async () => {
    await snapshots('one', 'two');
    fleet.alpha.holdJobs = true;
    const run = await fleet.until(await fleet.commit(), ({ progress }) => progress.currentBytes > 0);
    await restartAlpha();
    const ended = await fleet.end(run);
    expect([ended.state, ended.error?.code]).toEqual(['failed', 'job-interrupted']);
    expect(ended.error?.message).toMatch(/goes on where it was, with all its data/);
    expect(await commitOf(run)).toMatchObject({ state: 'failed', lostSnapshots: [{}, {}] });
    fleet.alpha.holdJobs = false;
    await readyCommit();
  });

  test('that failed while it waited says why', async () => {
    await snapshots('one');
    const run = await readyCommit();
    const error = { code: 'io-error', message: 'The base cannot be written.' };
    const [job] = [...fleet.alpha.jobs.values()];
    Object.assign(job!, { state: 'concluded', error });
    const ended = await fleet.end(await askFor('pivot', run));
    expect([ended.state, ended.error]).toEqual(['failed', error]);
    expect(await commitOf(run)).toMatchObject({ state: 'failed', error });
  });

  test('stays ready when the decision could not be delivered', async () => {
    await snapshots('one');
    const run = await readyCommit();
    fleet.alpha.fail('finishCommit', 'volume-busy', { times: 1 });
    const refused = await fleet.end(await askFor('pivot', run));
    expect([refused.state, refused.error?.code]).toEqual(['failed', 'volume-busy']);
    expect(await commitOf(run)).toMatchObject({ state: 'ready', decision: null });
    await fleet.succeed(await askFor('keep', run));
  });

  test('waits for a storage node that is away when the decision is made', async () => {
    await snapshots('one');
    const run = await readyCommit();
    fleet.alpha.stop();
    const pivot = await fleet.until(await askFor('pivot', run), ({ failures }) => failures > 3);
    expect(pivot.state).not.toBe('failed');
    await fleet.alpha.start();
    await fleet.succeed(pivot);
    expect(fleet.alpha.snapshots.mergedIds).toHaveLength(1);
  });
});

test('a worker that stops hands a commit over as it is', async () => {
  await snapshots('one');
  fleet.alpha.holdJobs = true;
  const run = await fleet.until(await fleet.commit(), ({ progress }) => progress.currentBytes > 0);
  await fleet.stopWorkers();
  await fleet.startWorker();
  fleet.alpha.holdJobs = false;
  await fleet.succeed(run);
  expect(fleet.alpha.callsOf('startCommit')).toHaveLength(1);
  expect((await commitOf(run)).state).toBe('ready');
});
