// Goal: after an outage, catalog and storage nodes come to agree again: what is there is adopted, what runs left is
// put away, what cannot be decided is told and waits for somebody.
// Method: a real worker and catalog; storage nodes whose things are put there and taken away behind its back.
import { randomUUID } from 'node:crypto';
import { inDatabase } from '@tidemark/catalog/testing';
import { StoredBackup, Volume } from '@tidemark/proto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Fleet, poll } from './fleet.ts';

let fleet: Fleet;

beforeEach(async () => {
  fleet = await Fleet.open();
});
afterEach(() => fleet.close());

async function reconcile(node: 'alpha' | 'beta') {
  const { result } = await fleet.succeed(await fleet.reconcile(node));
  return result;
}

const ended = async () => (await fleet.catalog.runs.list({ kind: 'reconcile' })).items;

describe('asked for', () => {
  beforeEach(async () => {
    await fleet.startWorker();
    await fleet.furnish();
  });

  test('nothing differs after backups and restores', async () => {
    const backup = await fleet.succeed(await fleet.backup('monday'));
    await fleet.succeed(await fleet.backup('tuesday', 'incremental'));
    const { backupId, repositoryId } = backup;
    await fleet.succeed(
      await fleet.restore({ backupId: backupId!, repositoryId: repositoryId! }, { volume: 'again' }),
    );
    for (const node of ['alpha', 'beta'] as const) {
      expect(await reconcile(node)).toMatchObject({ found: 0, repaired: 0, open: 0 });
    }
    expect(await fleet.differences()).toEqual([]);
  });

  test('a deletion that was given up is taken back, one that was carried out is finished', async () => {
    const { catalog, alpha, beta } = fleet;
    const stick = (table: string) =>
      inDatabase(fleet.database.url, client => client.query(`UPDATE ${table} SET state = 'deleting'`));
    const { volumeId } = await fleet.succeed(await fleet.backup('monday'));
    await stick('checkpoint');
    expect(await reconcile('alpha')).toMatchObject({ found: 1, repaired: 1, open: 0 });
    expect((await catalog.checkpoints.get(volumeId!, 'monday')).state).toBe('ready');
    await stick('checkpoint');
    alpha.checkpoints.clear();
    expect(await reconcile('alpha')).toMatchObject({ found: 1, repaired: 1, open: 0 });
    expect((await catalog.checkpoints.list(volumeId!)).items).toEqual([]);
    await stick('repository');
    expect(await reconcile('beta')).toMatchObject({ found: 1, repaired: 1, open: 0 });
    expect((await catalog.repositories.get('vault')).state).toBe('ready');
    await inDatabase(fleet.database.url, client => client.query('DELETE FROM backup'));
    beta.published.clear();
    beta.repositories.clear();
    await stick('repository');
    expect(await reconcile('beta')).toMatchObject({ found: 1, repaired: 1, open: 0 });
    expect(await catalog.repositories.find('vault')).toBeNull();
  });

  test('what was made after the catalog was saved is adopted, and increments build on it', async () => {
    await fleet.succeed(await fleet.backup('monday'));
    await fleet.succeed(await fleet.backup('tuesday', 'incremental'));
    await fleet.succeed(await fleet.snapshot('before'));
    const before = {
      volume: await fleet.catalog.volumes.get('disk'),
      backups: (await fleet.catalog.backups.list()).items,
    };
    await inDatabase(fleet.database.url, async client => {
      for (const table of ['backup', 'checkpoint', 'snapshot', 'volume', 'repository', 'run_step', 'run']) {
        await client.query(`DELETE FROM ${table}`);
      }
    });
    expect(await reconcile('beta')).toMatchObject({ found: 3, repaired: 3, open: 0 });
    expect(await reconcile('alpha')).toMatchObject({ found: 4, repaired: 4, open: 0 });
    const { createdAt: _, ...volume } = before.volume;
    expect(await fleet.catalog.volumes.get('disk')).toMatchObject(volume);
    const backups = (await fleet.catalog.backups.list()).items;
    const facts = ({ id, checkpoint, parentId, kind }: (typeof backups)[number]) => [
      id,
      checkpoint,
      parentId,
      kind,
    ];
    expect(backups.map(facts)).toEqual(before.backups.map(facts));
    const { items } = await fleet.catalog.checkpoints.list(before.volume.id);
    expect(items.map(({ name, state }) => [name, state])).toEqual([
      ['monday', 'ready'],
      ['tuesday', 'ready'],
    ]);
    await fleet.succeed(await fleet.backup('wednesday', 'incremental'));
    const [newest] = (await fleet.catalog.backups.list()).items;
    expect(newest).toMatchObject({ kind: 'incremental', parentId: before.backups[0]!.id });
  });

  test('a published backup whose answer never came is found', async () => {
    fleet.beta.fail('publishBackup', 'io-error', { afterwards: true });
    const run = await fleet.backup('monday');
    await fleet.until(run, ({ failures }) => failures > 0);
    await fleet.catalog.runs.requestCancel(run.id);
    // It is final by then: only an end by hand leaves the backup without an answer.
    await inDatabase(fleet.database.url, async client => {
      await client.query(
        `UPDATE run SET state = 'failed', lease_until = NULL, finished_at = now() WHERE id = $1`,
        [run.id],
      );
      await client.query('DELETE FROM backup');
    });
    fleet.beta.heal();
    expect(await reconcile('beta')).toMatchObject({ repaired: 1, open: 0 });
    expect(await fleet.differences()).toEqual(['backup-unknown repaired']);
    const [backup] = (await fleet.catalog.backups.list()).items;
    expect(backup).toMatchObject({ id: run.backupId, state: 'available', checkpoint: 'monday' });
  });

  test('a backup that its repository lost is neither a base nor forgotten', async () => {
    const { backupId } = await fleet.succeed(await fleet.backup('monday'));
    const manifest = fleet.beta.published.get(backupId!)!;
    fleet.beta.published.clear();
    expect(await reconcile('beta')).toMatchObject({ found: 1, repaired: 0, open: 1 });
    const volume = await fleet.catalog.volumes.get('disk');
    const repository = await fleet.catalog.repositories.get('vault');
    expect((await fleet.catalog.backups.get(backupId!)).state).toBe('missing');
    expect(await fleet.catalog.backups.findBase(volume.id, repository.id)).toBeNull();
    // The disk is mounted again.
    fleet.beta.published.set(backupId!, manifest);
    expect(await reconcile('beta')).toMatchObject({ found: 1, repaired: 1, open: 0 });
    expect((await fleet.catalog.backups.get(backupId!)).state).toBe('available');
    expect(await fleet.differences()).toEqual(['backup-differs repaired', 'backup-missing gone']);
  });

  test('the row of a hidden backup that is gone goes, and its child is as the repository has it', async () => {
    const { backupId } = await fleet.succeed(await fleet.backup('monday'));
    await fleet.succeed(await fleet.backup('tuesday', 'incremental'));
    await fleet.catalog.retention.hide([backupId!], randomUUID());
    fleet.beta.removals.end(fleet.beta.published.get(backupId!)!);
    expect(await reconcile('beta')).toMatchObject({ found: 2, repaired: 2, open: 0 });
    expect(await fleet.differences()).toEqual(['backup-differs repaired', 'removed-left repaired']);
    const { items } = await fleet.catalog.backups.list({ hidden: true });
    expect(items.map(({ checkpoint, parentId, kind }) => [checkpoint, parentId, kind])).toEqual([
      ['tuesday', null, 'full'],
    ]);
  });

  test('what cannot be decided waits for somebody', async () => {
    const { id: volumeId } = await fleet.catalog.volumes.get('disk');
    const there = fleet.alpha.volumes.get(volumeId)!;
    fleet.alpha.volumes.clear();
    expect(await reconcile('alpha')).toMatchObject({ found: 1, repaired: 0, open: 1 });
    expect(await reconcile('alpha')).toMatchObject({ found: 1, repaired: 0, open: 1 });
    const [difference] = (await fleet.catalog.differences.list()).items;
    expect(difference).toMatchObject({ kind: 'volume-missing', state: 'open', subjectId: volumeId });
    expect(difference!.lastSeenAt.getTime()).toBeGreaterThan(difference!.firstSeenAt.getTime());
    const wrong = await fleet.end(await fleet.repair(difference!, 'adopt'));
    expect([wrong.state, wrong.error]).toMatchObject(['failed', { code: 'invalid-request' }]);
    fleet.alpha.volumes.set(volumeId, there);
    const late = await fleet.end(await fleet.repair(difference!, 'forget'));
    expect([late.state, late.error?.code]).toEqual(['failed', 'difference-not-found']);
    expect(await fleet.catalog.volumes.find('disk')).not.toBeNull();
    fleet.alpha.volumes.clear();
    await fleet.succeed(await fleet.repair(difference!, 'forget'));
    expect(await fleet.catalog.volumes.find('disk')).toBeNull();
    expect(await fleet.differences()).toEqual(['volume-missing repaired']);
  });

  test('leftovers of runs that ended are put away, those of nobody are told', async () => {
    const done = await fleet.succeed(await fleet.backup('monday'));
    const { volumeId, backupId, checkpointId } = done;
    fleet.beta.partial.set(backupId!, { parent: '', uri: '', volumeId: '' });
    fleet.beta.partial.set(randomUUID(), { parent: '', uri: '', volumeId: '' });
    fleet.beta.inventory.open.push({ backupId: backupId!, runId: done.id, durable: false });
    fleet.alpha.inventory.addMoment(checkpointId!, volumeId!);
    await inDatabase(fleet.database.url, client =>
      client.query(`INSERT INTO backup_lease (id, backup_id, holder, holder_id) VALUES ($1, $2, 'run', $3)`, [
        randomUUID(),
        backupId,
        randomUUID(),
      ]),
    );
    // As published, it cannot be discarded; as the scripted storage node has it, both are there.
    fleet.beta.published.clear();
    await inDatabase(fleet.database.url, client => client.query(`UPDATE backup SET state = 'missing'`));
    await reconcile('alpha');
    await reconcile('beta');
    expect(await fleet.differences()).toEqual([
      'backup-missing open',
      'lease-left repaired',
      'moment-left repaired',
      'open-backup-left repaired',
      'partial-left open',
      'partial-left repaired',
    ]);
    expect([fleet.beta.partial.size, fleet.beta.inventory.open, fleet.alpha.inventory.moments.size]).toEqual([
      1,
      [],
      0,
    ]);
  });

  test('a repair that fails leaves the difference open and says why', async () => {
    const volumeId = randomUUID();
    const wanted = { volumeId, name: 'found', sizeBytes: 4096, format: 'raw', exportUri: 'nbd://h/found' };
    fleet.alpha.volumes.set(volumeId, Volume.fromPartial(wanted));
    const { name, state } = await fleet.catalog.volumes.get('disk');
    expect([name, state]).toEqual(['disk', 'ready']);
    const orphan = { backupId: randomUUID(), parentBackupId: randomUUID(), checkpointId: randomUUID() };
    fleet.beta.published.set(
      orphan.backupId,
      StoredBackup.fromPartial({ ...orphan, volumeId, kind: 'incremental' }),
    );
    await reconcile('alpha');
    expect(await reconcile('beta')).toMatchObject({ found: 1, repaired: 0, open: 1 });
    const { items } = await fleet.catalog.differences.list({ state: 'open' });
    expect(items).toMatchObject([{ kind: 'backup-unknown' }]);
    expect(String(items[0]!.data.failure)).toMatch(/^adopt: backup-not-found: .*Adopt that one first/);
    expect((await fleet.catalog.volumes.get('found')).state).toBe('ready');
  });

  test('each change is told as an event', async () => {
    fleet.alpha.volumes.clear();
    await reconcile('alpha');
    const { id } = await fleet.catalog.volumes.get('disk');
    await fleet.catalog.volumes.delete(id, null);
    await reconcile('alpha');
    const events = (await fleet.catalog.events.listAfter(0, 1000)).filter(({ kind }) =>
      /^difference/.test(kind),
    );
    expect(events.map(({ kind, subjectId }) => [kind, subjectId])).toEqual([
      ['difference-found', id],
      ['difference-gone', id],
    ]);
  });
});

test('what is only to be reported is not repaired', async () => {
  await fleet.startWorker({}, { reportOnly: ['volume-unknown'] });
  await fleet.furnish();
  await fleet.catalog.volumes.delete((await fleet.catalog.volumes.get('disk')).id, null);
  expect(await reconcile('alpha')).toMatchObject({ found: 1, repaired: 0, open: 1 });
  const [difference] = (await fleet.catalog.differences.list()).items;
  await fleet.succeed(await fleet.repair(difference!, 'adopt'));
  expect((await fleet.catalog.volumes.get('disk')).state).toBe('ready');
});

describe('by itself', () => {
  const often = { reconcileMs: 600_000 };
  const ofAlpha = async () => (await ended()).filter(run => run.storageNodeId === fleet.nodeIds.alpha);

  test('a storage node that was restarted is compared once, also by two workers', async () => {
    await fleet.startWorker(often);
    await fleet.startWorker(often);
    await fleet.furnish();
    // Both have heard when it had started.
    const asked = fleet.alpha.callsOf('getStatus').length;
    await poll('two rounds of two workers', async () =>
      fleet.alpha.callsOf('getStatus').length >= asked + 5 ? true : undefined,
    );
    expect(await ofAlpha()).toEqual([]);
    fleet.alpha.volumes.clear();
    fleet.alpha.startedAtMs = 2;
    await poll('a difference', async () => (await fleet.differences())[0]);
    await poll('its end', async () => ((await ofAlpha())[0]?.state === 'succeeded' ? true : undefined));
    await new Promise(resolve => setTimeout(resolve, 1_200));
    expect((await ofAlpha()).map(({ request }) => request.cause)).toEqual(['returned']);
  });

  test('a storage node that did not answer is compared when it does', async () => {
    await fleet.startWorker(often);
    await fleet.furnish();
    fleet.alpha.stop();
    await poll('its absence', async () =>
      (await fleet.catalog.storageNodes.get('alpha')).state === 'unreachable' ? true : undefined,
    );
    await fleet.alpha.start();
    await poll('a comparison', async () => ((await ofAlpha())[0]?.state === 'succeeded' ? true : undefined));
    expect((await ofAlpha()).map(({ request }) => request.cause)).toEqual(['returned']);
  });

  test('at intervals, of which the dull ones leave one run', async () => {
    await fleet.startWorker({ ...often, reconcileMs: 100, reconcileQuietMs: 10 });
    await fleet.furnish();
    const seen = new Set<string>();
    await poll('four comparisons', async () => {
      for (const run of await ended()) if (run.storageNodeId === fleet.nodeIds.alpha) seen.add(run.id);
      return seen.size >= 4 ? true : undefined;
    });
    const left = (await ended()).filter(run => run.storageNodeId === fleet.nodeIds.alpha);
    expect(left.length).toBeLessThanOrEqual(2);
  });
});
