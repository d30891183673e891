// Goal: a catalog that was restored from an older dump costs no byte of a guest and no backup: what was made since is
// found again on the storage nodes, and work goes on. Method: the database's folder is copied while all stands still,
// and put back after more was done.
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Window } from './disk-model.ts';
import { OneDisk } from './testing/one-disk.ts';

let disk: OneDisk;
const windows = new Map<string, Window>();

beforeAll(async () => {
  disk = await OneDisk.open();
});
afterAll(() => disk.close());

const betaDir = () => disk.stack.nodes.find(({ name }) => name === 'beta')!.stateDir;

/** With owners: the database runs as another user. */
function copy(from: string, to: string): void {
  execFileSync('cp', ['-a', from, to]);
}

async function backUp(checkpoint: string, kind: 'full' | 'incremental'): Promise<string> {
  const from = disk.guest.model.now();
  const { status, body } = await disk.backUp(checkpoint, { kind });
  expect(status, JSON.stringify(body)).toBe(201);
  windows.set(checkpoint, { from, to: disk.guest.model.now() });
  return body.backup.id;
}

async function restart(between: () => void): Promise<void> {
  await disk.guest.rest();
  await disk.guest.close();
  await disk.stack.stop();
  between();
  await disk.startServices();
  await disk.guest.start();
}

test('what an older catalog does not know of is found again, and increments go on', async () => {
  await disk.furnish({ vaultOn: 'beta' });
  const live = join(disk.home, 'postgres');
  const dump = join(disk.home, 'dump');
  const first = await backUp('monday', 'full');
  await restart(() => copy(live, dump));
  const second = await backUp('tuesday', 'incremental');
  await disk.rest.make('volumes', { name: 'later', storageNode: 'alpha', sizeBytes: 1024 * 1024 });
  await restart(() => {
    rmSync(live, { recursive: true });
    copy(dump, live);
  });

  const known = await disk.rest.list('backups');
  expect(known.map(({ id }) => id)).toEqual([first]);
  const { body } = await disk.rest.call('POST', 'reconcile', {});
  expect(body).toMatchObject({ skipped: [], runs: [{ kind: 'reconcile' }, { kind: 'reconcile' }] });
  for (const { id } of body.runs) expect(await disk.end(id, 60_000)).toMatchObject({ state: 'succeeded' });
  // What cannot lose anything is put right at once: rows of what is there come back.
  const differences = await disk.rest.list('differences');
  expect(differences.map(({ kind, state }) => `${kind} ${state}`)).toEqual(
    expect.arrayContaining([
      'backup-unknown repaired',
      'checkpoint-unknown repaired',
      'volume-unknown repaired',
    ]),
  );
  expect(await disk.rest.read('volumes/later')).toMatchObject({ state: 'ready' });
  await disk.rest.make('repositories/vault/scan', {});
  const found = await disk.rest.list('backups');
  expect(found.map(({ id }) => id).sort()).toEqual([first, second].sort());

  const third = await backUp('wednesday', 'incremental');
  expect(await disk.rest.read(`backups/${third}`)).toMatchObject({ kind: 'incremental' });
  await disk.guest.rest();
  expect(disk.guest.faults).toEqual([]);
  expect(disk.guest.model.compare(await disk.guest.read())).toEqual([]);
  for (const [id, checkpoint] of [
    [first, 'monday'],
    [second, 'tuesday'],
    [third, 'wednesday'],
  ] as const) {
    expect(
      await disk.faultOf(await disk.backupPath(betaDir(), id), windows.get(checkpoint)!),
    ).toBeUndefined();
  }
});
