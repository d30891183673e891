// Goal: an operator boots a volume from a chain of backups at once, loses and gets back the repository's host, and
// ends with a volume that stands alone, whose first backup is an increment on what it came from. Method: the real
// services in a temporary home, driven through the REST API, guests over NBD.
import { randomBytes } from 'node:crypto';
import { NbdClient } from '@tidemark/nbd';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Operator } from './testing/operator.ts';

const MiB = 1024 * 1024;
/** What an instant restore promises. */
const FIRST_READ_MS_MAX = 2_000;
const CHAIN = 30;

let operator: Operator;
const backups: string[] = [];
let contents: Buffer;

beforeAll(async () => {
  operator = await Operator.open({ disk: '16MiB' });
  for (let n = 0; n < CHAIN; n++) {
    await operator.write('disk', (n % 16) * MiB + n * 4096, randomBytes(200_000));
    const kind = n === 0 ? 'full' : 'incremental';
    const wanted = { volume: 'disk', repository: 'vault', checkpoint: `c${n}`, kind };
    backups.push((await operator.post('backups', wanted)).backup.id);
  }
  contents = await operator.contents('disk');
}, 240_000);

afterAll(() => operator?.close());

const instant = (backup: string, name: string, more: object = {}) =>
  operator.post(
    'restores',
    { backup, target: { instant: { name, storageNode: 'alpha' } }, ...more },
    'checkpoint',
  );

/** From the request to the first bytes, in milliseconds. */
async function timeToFirstRead(backup: string, name: string): Promise<number> {
  const before = performance.now();
  const { volume, run } = await instant(backup, name);
  expect(volume).toMatchObject({ state: 'ready', format: 'qcow2' });
  const guest = await NbdClient.connect({ uri: volume.exportUri });
  const first = Buffer.alloc(4096);
  await guest.read(0, first);
  const elapsedMs = performance.now() - before;
  await guest.disconnect();
  // Written before the first backup and never again: it lies at the far end of every chain.
  expect(first.equals(contents.subarray(0, first.length))).toBe(true);
  expect((await operator.ended(run.id)).result).toMatchObject({ state: 'complete', damage: null });
  expect((await operator.get(`volumes/${name}`)).sourceBackupId).toBeNull();
  return elapsedMs;
}

test.each([1, 10, CHAIN])(
  'the first read comes within two seconds of the request, chain of %i',
  async length => {
    const times: number[] = [];
    // A busy machine may be late once.
    while (times.length < 3 && !times.some(ms => ms < FIRST_READ_MS_MAX)) {
      times.push(await timeToFirstRead(backups[length - 1]!, `after-${length}-${times.length}`));
    }
    expect(Math.min(...times)).toBeLessThan(FIRST_READ_MS_MAX);
  },
);

test('a volume is booted from its backup, survives the loss of its repository, and is backed up again', async () => {
  const source = backups.at(-1)!;
  const { volume, run } = await instant(source, 'booted', { speedBytesPerSecond: MiB });
  expect(volume.sourceBackupId).toBe(source);
  const guest = await NbdClient.connect({ uri: volume.exportUri });
  const own = randomBytes(300_000);
  await guest.write(5 * MiB + 77, own);
  await guest.flush();
  own.copy(contents, 5 * MiB + 77);

  const isBack = await operator.bringDown('beta');
  const late = Buffer.alloc(MiB);
  let isAnswered = false;
  const reading = guest.read(15 * MiB, late).then(() => {
    isAnswered = true;
  });
  await isBack();
  // It waits for the repository's host, which is only now coming up, and no longer.
  expect(isAnswered).toBe(false);
  await reading;
  expect(late.equals(contents.subarray(15 * MiB))).toBe(true);
  await guest.disconnect();

  const done = await operator.ended(run.id);
  await operator.nodesAreOnline();
  expect(done.result).toMatchObject({ state: 'complete', volumeId: volume.id });
  expect((await operator.contents('booted')).equals(contents)).toBe(true);

  const wanted = { volume: 'booted', repository: 'vault', checkpoint: 'first', kind: 'incremental' };
  const { backup } = await operator.post('backups', wanted);
  expect(backup).toMatchObject({ kind: 'incremental', parentId: source });
  expect(backup.sentBytes).toBeLessThan(MiB);
  await operator.post('restores', {
    backup: backup.id,
    target: { volume: { name: 'elsewhere', storageNode: 'beta' } },
  });
  expect((await operator.contents('elsewhere')).equals(contents)).toBe(true);
}, 120_000);

test('a volume goes back in place to where it was, and only what differs moves', async () => {
  const before = await operator.contents('disk');
  await operator.write('disk', 9 * MiB, randomBytes(100_000));
  const target = { inPlace: { volume: 'disk' } };
  const { run } = await operator.post('restores', { backup: backups.at(-1), target });
  expect(run.result).toMatchObject({ state: 'complete', differingBytes: 2 * 65_536, sentBytes: 2 * 65_536 });
  expect((await operator.contents('disk')).equals(before)).toBe(true);
});
