// Goal: a repository's storage node that is cut off for seconds costs a backup nothing, one that stays away ends the
// backup in bounded time, and the guest never waits longer than its bound. Method: the real services, the repository's
// storage node in a network namespace of its own whose packets are dropped.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { SeededRandom } from '../../../packages/engine/src/testing/seeded-random.ts';
import { registerStorageNode } from '../../stack/registration.ts';
import { Stack } from '../../stack/stack.ts';
import { readImage } from '../contents.ts';
import { DiskModel } from '../disk-model.ts';
import { Guest } from '../guest.ts';
import { DISK_BLOCKS, DISK_BYTES } from '../limits.ts';
import { Rest, type RunJson } from '../rest.ts';
import { RemoteStorageNode, whyNoNetwork } from '../testing/remote-storage-node.ts';

/** What a guest's write may wait for a copy, and the time of a busy machine. */
const GUEST_WAIT_MS_MAX = 10_000 + 2_000;
/** Until the run of a target that stays away has failed: its silence is borne for so long, its undoing is tried. */
const GIVEN_UP_MS_MAX = 180_000;
const SLOW = { speedBytesPerSecond: 256 * 1024 };

let home: string;
let stack: Stack;
let rest: Rest;
let remote: RemoteStorageNode;
let guest: Guest;

beforeEach(({ skip }) => {
  const why = whyNoNetwork();
  skip(why !== undefined, why);
});

/** With a guest that writes. How long the copy waits for its target by itself, and the run for the storage node. */
async function open({ reconnectMs, awayMs }: { reconnectMs: number; awayMs: number }): Promise<void> {
  home = mkdtempSync(join(tmpdir(), 'tidemark-home-'));
  stack = new Stack({
    home,
    ports: 'free',
    nodes: ['alpha'],
    environment: {
      TIDEMARK_WORKER_LEASE_MS: '3000',
      TIDEMARK_TARGET_RECONNECT_MS: `${reconnectMs}`,
      TIDEMARK_TARGET_AWAY_MS: `${awayMs}`,
      TIDEMARK_WORKER_RETRY_MAX_MS: '2000',
    },
  });
  await stack.start();
  remote = await RemoteStorageNode.start({
    name: 'remote',
    stateDir: join(home, 'remote'),
    fleetSecret: stack.fleetSecret,
  });
  await registerStorageNode(stack.url, remote, AbortSignal.timeout(30_000));
  rest = new Rest(stack.urls);
  await rest.make('repositories', { name: 'vault', storageNode: 'remote' });
  const { volume } = await rest.make('volumes', {
    name: 'disk',
    storageNode: 'alpha',
    sizeBytes: DISK_BYTES,
  });
  const model = new DiskModel(DISK_BLOCKS);
  guest = new Guest({ uri: volume.exportUri, model, random: new SeededRandom(5) });
  guest.move();
  await guest.start();
  await delay(2_000);
}

afterEach(async () => {
  await guest?.close();
  await remote?.stop();
  await stack?.stop();
  if (home) rmSync(home, { recursive: true, force: true });
});

/** Cut off while it copies. */
async function startBackup(): Promise<{ runId: string; backupId: string; from: number }> {
  const from = guest.model.now();
  const body = { volume: 'disk', repository: 'vault', kind: 'full', checkpoint: 'monday', ...SLOW };
  const answer = await rest.call('POST', 'backups?wait=checkpoint', body);
  expect(answer.status, JSON.stringify(answer.body)).toBe(202);
  const runId = answer.body.run.id;
  await expect.poll(() => copiedBytes(runId), { timeout: 30_000 }).toBeGreaterThan(0);
  remote.cut();
  return { runId, backupId: answer.body.backup.id, from };
}

/** Of a backup that is being copied. */
async function copiedBytes(runId: string): Promise<number> {
  const { state, progress } = await rest.read(`runs/${runId}`);
  expect(state).toBe('running');
  expect(progress.currentBytes).toBeLessThan(Math.max(progress.totalBytes, 1));
  return progress.currentBytes;
}

async function end(runId: string): Promise<RunJson> {
  const run = await rest.follow(runId, () => {}, GIVEN_UP_MS_MAX);
  expect(run, 'the run does not end').toBeDefined();
  return run!;
}

test('a target that is cut off for seconds costs neither the backup nor the guest anything', async () => {
  await open({ reconnectMs: 15_000, awayMs: 60_000 });
  const { runId, from } = await startBackup();
  const to = guest.model.now();
  await delay(3_000);
  expect(await copiedBytes(runId), 'it was not cut off while it was copied').toBeGreaterThan(0);
  remote.heal();
  const run = await end(runId);
  expect(run, JSON.stringify(run.error)).toMatchObject({ state: 'succeeded' });
  await guest.rest();
  expect(guest.faults).toEqual([]);
  expect(guest.losses).toBe(0);
  expect(guest.slowestMs).toBeLessThan(GUEST_WAIT_MS_MAX);
  const [repository] = await rest.list('repositories');
  const { fileName } = await rest.read(`backups/${run.result!.backupId}`);
  const path = join(remote.stateDir, 'repositories', repository.id, fileName);
  expect(guest.model.judge(await readImage(path, 'qcow2'), { from, to })).toEqual([]);
});

test(
  'a target that stays away ends the backup, and nothing is left',
  async () => {
    await open({ reconnectMs: 2_000, awayMs: 10_000 });
    const { runId } = await startBackup();
    const run = await end(runId);
    expect(run.state).toBe('failed');
    expect(['storage-node-unreachable', 'io-error', 'job-interrupted']).toContain(run.error?.code);
    await guest.rest();
    expect(guest.slowestMs).toBeLessThan(GUEST_WAIT_MS_MAX);
    expect(await rest.list('volumes/disk/checkpoints')).toEqual([]);
    expect(await rest.list('backups')).toEqual([]);
    remote.heal();
    await expect
      .poll(
        async () =>
          rest.call('POST', 'backups?wait=done', {
            volume: 'disk',
            repository: 'vault',
            kind: 'full',
            checkpoint: 'tuesday',
          }),
        {
          timeout: GIVEN_UP_MS_MAX,
          interval: 500,
        },
      )
      .toMatchObject({ status: 201 });
  },
  GIVEN_UP_MS_MAX * 3,
);
