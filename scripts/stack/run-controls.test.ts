// Goal: an operator lets a backup stand still, go on, and go slowly, from the shell, while it runs. Method: the real
// services and the real command. Times are bound from below alone: a machine may always be slower.
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { digestOf, Operator } from './testing/operator.ts';

const MiB = 1024 * 1024;
const DISK_MIB = 16;
/** Of the backup that was paused. */
const RESUMED_MIB_PER_S = 2;
/** Far longer than the worker needs to hear of a job's progress. */
const STILL_MS = 3_000;
/** A limit is kept over a second or so: that much of the time may be given at once. */
const BURST_S = 1.5;
const PATIENCE = { timeout: 60_000, interval: 100 };

let operator: Operator;
let held: string;
beforeAll(async () => {
  operator = await Operator.open({ disk: `${DISK_MIB}MiB` });
  const bytes = randomBytes(DISK_MIB * MiB);
  held = digestOf(bytes);
  await operator.write('disk', 0, bytes);
});
afterAll(() => operator?.close());

const show = (id: string) => operator.json('run', 'show', id);
const copied = async (id: string) => (await show(id)).progress.currentBytes as number;

async function expectWhole(backup: string, name: string): Promise<void> {
  await operator.tidemark('restore', '--backup', backup, '--storage-node', 'alpha', '--to-volume', name);
  expect(await operator.digest(name)).toBe(held);
}

test('a backup stands still while it is paused, and goes on as slowly as it is told', async () => {
  const { run, backup } = await operator.backUp('disk', 'paused', 'full', '--speed', '512KiB', '--no-wait');
  await expect.poll(() => copied(run.id), PATIENCE).toBeGreaterThan(0);
  expect(await operator.tidemark('run', 'pause', run.id)).toContain('stand still');
  let last = -1;
  const standsStill = async () => {
    const before = last;
    last = await copied(run.id);
    return before === last;
  };
  await expect.poll(standsStill, { timeout: 60_000, interval: STILL_MS }).toBe(true);
  expect(last).toBeLessThan(DISK_MIB * MiB);
  // A speed is no order to go on.
  await operator.tidemark('run', 'speed', run.id, `${RESUMED_MIB_PER_S}MiB`);
  await delay(STILL_MS);
  expect(await show(run.id)).toMatchObject({
    state: 'running',
    paused: true,
    speedBytesPerSecond: RESUMED_MIB_PER_S * MiB,
    progress: { currentBytes: last },
  });

  const since = performance.now();
  await operator.tidemark('run', 'resume', run.id);
  await operator.tidemark('run', 'watch', run.id);
  const elapsedS = (performance.now() - since) / 1000;
  expect(elapsedS).toBeGreaterThan((DISK_MIB - last / MiB) / RESUMED_MIB_PER_S - BURST_S);
  expect(await show(run.id)).toMatchObject({ state: 'succeeded', paused: false });
  await expectWhole(backup.id, 'from-paused');
});

test('a backup that would take half an hour ends when its limit is taken away', async () => {
  const { run, backup } = await operator.backUp('disk', 'slow', 'full', '--speed', '8KiB', '--no-wait');
  await expect.poll(async () => (await show(run.id)).checkpointAt, PATIENCE).not.toBeNull();
  expect((await show(run.id)).state).toBe('running');
  await operator.tidemark('run', 'speed', run.id, '0');
  await operator.tidemark('run', 'watch', run.id);
  await expectWhole(backup.id, 'from-slow');
});

test('a backup that is cancelled while it is paused leaves nothing', async () => {
  const { run, backup } = await operator.backUp('disk', 'given-up', 'full', '--speed', '8KiB', '--no-wait');
  await operator.tidemark('run', 'pause', run.id);
  await operator.tidemark('run', 'cancel', run.id);
  await expect.poll(async () => (await show(run.id)).state, PATIENCE).toBe('cancelled');
  const { items } = await operator.json('checkpoint', 'list', 'disk');
  expect(items.map(({ name }: { name: string }) => name)).not.toContain('given-up');
  await expect(operator.json('backup', 'show', backup.id)).rejects.toThrow(/backup-not-found/);
});
