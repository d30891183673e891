// Goal: kill -9 of a storage node costs no dirty bit and no full backup, and what it adds is bounded and told.
// Method: the real program, guests over NBD, SIGKILL while they write; restores compared with the disk.
import { randomBytes } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NbdClient } from '@tidemark/nbd';
import type { StorageNodeClients } from '@tidemark/proto';
import { expect, onTestFinished, test, vi } from 'vitest';
import { StorageNodeProcess } from '../../../scripts/process/storage-node-process.ts';
import { MiB } from '../src/testing/backups.ts';
import { BackupPair, readDisk, withGuest } from '../src/testing/live-volume.ts';
import { RunningStorageNode } from '../src/testing/running-storage-node.ts';
import { temporaryFolder } from '../src/testing/temporary-folder.ts';
import { regionNumbers } from '../src/volume/intent-file.ts';
import { decodeLog } from '../src/volume/intent-slots.ts';

const KiB = 1024;
const CLUSTER = 64 * KiB;
const REGION = 16 * MiB;
const SIZE = 256 * MiB;
/** Bits are stored, and the log is emptied, soon after guests have gone idle. */
const IDLE_TIMEOUT_MS = 20_000;

class KilledStorageNode {
  readonly stateDir: string;
  #process: StorageNodeProcess;

  private constructor(process: StorageNodeProcess) {
    this.#process = process;
    this.stateDir = process.stateDir;
  }

  static async start(): Promise<KilledStorageNode> {
    const stateDir = await temporaryFolder();
    const node = new KilledStorageNode(await StorageNodeProcess.start({ name: 'alpha', stateDir }));
    onTestFinished(() => node.#process.stop());
    return node;
  }

  get clients(): StorageNodeClients {
    return this.#process.clients;
  }

  async killAndStart(between: () => Promise<void> = async () => {}): Promise<void> {
    await this.#process.kill();
    await between();
    await this.#startAgain();
  }

  /** By SIGTERM, in order. */
  async stopAndStart(): Promise<void> {
    await this.#process.stop();
    await this.#startAgain();
  }

  async #startAgain(): Promise<void> {
    this.#process = await StorageNodeProcess.start({ name: 'alpha', stateDir: this.stateDir });
  }
}

async function makePair(format = 'raw'): Promise<BackupPair<RunningStorageNode | KilledStorageNode>> {
  const [source, vault] = [await KilledStorageNode.start(), await RunningStorageNode.start()];
  return BackupPair.make<RunningStorageNode | KilledStorageNode>(source, vault, {
    volume: { format, sizeBytes: SIZE },
  });
}

async function killAndStart(pair: Awaited<ReturnType<typeof makePair>>, between?: () => Promise<void>) {
  await (pair.source as KilledStorageNode).killAndStart(between);
  const { exportUri } = await pair.source.clients.volumes.getVolume(pair.volume);
  return exportUri;
}

async function loggedRegions({ source, volume }: Awaited<ReturnType<typeof makePair>>): Promise<number[]> {
  const file = await readFile(
    join((source as KilledStorageNode).stateDir, 'volumes', volume.volumeId, 'intents'),
  );
  return [...regionNumbers(decodeLog(file, { volumeId: volume.volumeId, sizeBytes: SIZE })!.slot.regions)];
}

test.each(['raw', 'qcow2'])(
  'after a kill amid writes the next increment of a %s volume is one, and right',
  async format => {
    const pair = await makePair(format);
    await withGuest(pair.volume.exportUri, guest => guest.write(0, randomBytes(MiB)));
    const full = await pair.backUp();
    await withGuest(pair.volume.exportUri, async guest => {
      await guest.write(20 * MiB + 5, randomBytes(100));
      await guest.writeZeroes(100 * MiB, CLUSTER);
      await guest.flush();
    });
    // Answered by the time of the kill or not: they are in the page cache, or nowhere.
    const uri = await withGuest(pair.volume.exportUri, async guest => {
      const writes = Array.from({ length: 64 }, (_, i) =>
        guest.write(200 * MiB + i * CLUSTER, randomBytes(4 * KiB)),
      );
      const settled = Promise.allSettled(writes);
      await Promise.all(writes.slice(0, 8));
      const restarted = await killAndStart(pair);
      await settled;
      return restarted;
    }).catch(async () => (await pair.source.clients.volumes.getVolume(pair.volume)).exportUri);
    const [checkpoint] = await pair.checkpoints();
    expect(checkpoint).toMatchObject({ inconsistent: false, recording: true });
    // Four regions were written to, and one stream may have been logged ahead.
    expect(checkpoint!.grownBytes).toBeGreaterThan(0);
    expect(checkpoint!.grownBytes).toBeLessThanOrEqual(4 * REGION);
    expect(checkpoint!.changedSinceBytes).toBeLessThanOrEqual(4 * REGION);
    const increment = await pair.backUp(full.backup);
    expect((await pair.restored(increment.backup)).equals(await readDisk(uri))).toBe(true);
    expect((await pair.checkpoints()).at(-1)).toMatchObject({ grownBytes: 0, changedSinceBytes: 0 });
  },
);

test('an orderly stop amid writes costs nothing: bits are stored as they are, and the log is empty', async () => {
  const pair = await makePair();
  const full = await pair.backUp();
  const node = pair.source as KilledStorageNode;
  const guest = await NbdClient.connect({ uri: pair.volume.exportUri });
  const places = [1, 40, 90, 200].map(mebibyte => mebibyte * MiB);
  for (const place of places) await guest.write(place, randomBytes(CLUSTER));
  expect(await loggedRegions(pair)).not.toEqual([]);
  await node.stopAndStart();
  await guest.disconnect().catch(() => {});
  expect(await loggedRegions(pair)).toEqual([]);
  const changed = { changedSinceBytes: places.length * CLUSTER, grownBytes: 0, inconsistent: false };
  expect(await pair.checkpoints()).toMatchObject([changed]);
  const increment = await pair.backUp(full.backup);
  expect(increment.backup.dirtyBytes).toBe(places.length * CLUSTER);
  const { exportUri } = await node.clients.volumes.getVolume(pair.volume);
  expect((await pair.restored(increment.backup)).equals(await readDisk(exportUri))).toBe(true);
});

test('bits that were stored before the kill grow by nothing', async () => {
  const pair = await makePair();
  const full = await pair.backUp();
  await withGuest(pair.volume.exportUri, guest => guest.write(50 * MiB, randomBytes(CLUSTER)));
  await vi.waitFor(async () => expect(await loggedRegions(pair)).toEqual([]), {
    timeout: IDLE_TIMEOUT_MS,
    interval: 200,
  });
  const uri = await killAndStart(pair);
  const changed = { changedSinceBytes: CLUSTER, grownBytes: 0, inconsistent: false };
  expect(await pair.checkpoints()).toMatchObject([changed]);
  await withGuest(uri, guest => guest.write(90 * MiB, randomBytes(CLUSTER)));
  const increment = await pair.backUp(full.backup);
  expect(increment.backup.dirtyBytes).toBe(2 * CLUSTER);
});

test.each([
  ['lost', (log: string) => rm(log)],
  [
    'damaged',
    async (log: string) => {
      const bytes = await readFile(log);
      bytes[70]! ^= 1;
      await writeFile(log, bytes);
    },
  ],
])('a log that is %s costs a full backup that says so, once', async (_what, spoil) => {
  const pair = await makePair();
  const full = await pair.backUp();
  const log = join((pair.source as KilledStorageNode).stateDir, 'volumes', pair.volume.volumeId, 'intents');
  await killAndStart(pair, () => spoil(log));
  expect(await pair.checkpoints()).toMatchObject([{ inconsistent: true, grownBytes: 0 }]);
  await expect(pair.start({ parent: full.backup })).rejects.toMatchObject({
    code: 'checkpoint-inconsistent',
  });
  const again = await pair.backUp();
  const uri = await killAndStart(pair);
  expect((await pair.checkpoints()).map(({ inconsistent }) => inconsistent)).toEqual([true, false]);
  await withGuest(uri, guest => guest.write(0, randomBytes(CLUSTER)));
  const increment = await pair.backUp(again.backup);
  expect(increment.backup.dirtyBytes).toBe(CLUSTER);
});
