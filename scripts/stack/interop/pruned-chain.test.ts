// Goal: a chain of 30 backups is pruned to 7 by rules through the api, its host killed in the middle, and each that is
// left is converted by plain qemu-img, without us, to what the disk held. Method: the real services and the real
// command; the backups are moved into the past first, one a day.
import { execFile, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { cpSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { inDatabase } from '@tidemark/catalog/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { digestOf, Operator } from '../testing/operator.ts';

const CLUSTER = 64 * 1024;
const DISK_BYTES = 4 * 1024 * 1024;
const BACKUPS = 30;
/** By days, the newest is 0: three days, then the newest of each older week and of each older month. */
const RULES = ['--keep-daily', '3', '--keep-weekly', '4', '--keep-monthly', '3', '--time-zone', 'UTC'];
/** A Sunday. The weeks' newest are 0, 7, 14 and 21 days before, those of the months 15 (31 October) and 0. */
const NEWEST = Date.parse('2026-11-15T12:00:00Z');
const KEPT_AGES = [0, 1, 2, 7, 14, 15, 21];
const DAY_MS = 86_400_000;
const PATIENCE = { timeout: 120_000, interval: 100 };
const run = promisify(execFile);

interface Listed {
  readonly id: string;
  readonly checkpoint: string;
}

let operator: Operator;
beforeAll(async () => {
  operator = await Operator.open({ disk: '4MiB' });
});
afterAll(() => operator?.close());

/** Hash of the disk by age of the backup in days. */
async function makeChain(): Promise<Map<number, string>> {
  const hashes = new Map<number, string>();
  await operator.write('disk', 0, randomBytes(DISK_BYTES / 2));
  for (let age = BACKUPS - 1; age >= 0; age -= 1) {
    await operator.guest('disk', async guest => {
      const at = (n: number) => ((age * 7 + n * 13) % (DISK_BYTES / CLUSTER)) * CLUSTER;
      await guest.write(at(0), randomBytes(CLUSTER));
      await guest.write(at(1), randomBytes(CLUSTER / 2));
      await guest.writeZeroes(at(2), CLUSTER);
    });
    hashes.set(age, await operator.digest('disk'));
    await operator.backUp('disk', `age-${age}`, age === BACKUPS - 1 ? 'full' : 'incremental');
  }
  return hashes;
}

async function moveIntoThePast(): Promise<void> {
  await inDatabase(operator.stack.databaseUrl, async client => {
    for (let age = 0; age < BACKUPS; age += 1) {
      await client.query('UPDATE checkpoint SET point_in_time = $1 WHERE name = $2', [
        new Date(NEWEST - age * DAY_MS),
        `age-${age}`,
      ]);
      await client.query('UPDATE backup SET point_in_time = $1 WHERE checkpoint_name = $2', [
        new Date(NEWEST - age * DAY_MS),
        `age-${age}`,
      ]);
    }
  });
}

const backups = async (): Promise<Listed[]> =>
  (await operator.json('backup', 'list', '--volume', 'disk', '--hidden', '--limit', '100')).items;
const ageOf = ({ checkpoint }: Listed) => Number(checkpoint.replace('age-', ''));

test('what rules keep of a chain of 30 is readable by plain qemu-img, through a kill', {
  timeout: 600_000,
}, async context => {
  const isThere = spawnSync('qemu-img', ['--version']).error === undefined;
  if (!isThere && process.env.CI) throw new Error('qemu-img is not installed');
  context.skip(!isThere, 'qemu-img is not installed');
  const hashes = await makeChain();
  await moveIntoThePast();
  const place = ['--repository', 'vault', '--volume', 'disk', ...RULES];
  const plan = await operator.json('prune', ...place, '--dry-run');
  const kept = plan.items.filter(({ goes }: { goes: boolean }) => !goes);
  expect(kept).toHaveLength(KEPT_AGES.length);
  for (const { keep } of kept) expect(keep.length).toBeGreaterThan(0);

  const { run: pruning } = await operator.json('prune', ...place, '--speed', '256KiB', '--no-wait');
  await expect.poll(async () => (await backups()).length, PATIENCE).toBeLessThan(BACKUPS);
  expect((await operator.json('run', 'show', pruning.id)).state).toBe('running');
  await operator.kill('beta');
  await operator.tidemark('run', 'watch', pruning.id);
  const pruned = await operator.json('run', 'show', pruning.id);
  expect(pruned).toMatchObject({ state: 'succeeded', result: { waiting: [] } });

  const left = await backups();
  expect(left.map(ageOf).sort((a, b) => a - b)).toEqual(KEPT_AGES);
  const images = await Promise.all(left.map(({ id }) => operator.imagePath(id)));
  const folder = join(operator.stack.home, 'elsewhere');
  await operator.stack.stop();
  expect(readdirSync(dirname(images[0]!)).filter(name => name.endsWith('.qcow2'))).toHaveLength(left.length);
  cpSync(dirname(images[0]!), folder, { recursive: true });
  for (const [index, image] of images.entries()) {
    const [copy, raw] = [join(folder, basename(image)), join(folder, 'disk.raw')];
    await run('qemu-img', ['check', copy]);
    await run('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', copy, raw]);
    expect(digestOf(readFileSync(raw))).toBe(hashes.get(ageOf(left[index]!)));
  }
});
