// Goal: a backup of any size, and a restore, keep each storage node within 256 MiB of memory, whatever the
// guest does meanwhile. Method: two storage nodes as processes of their own, a volume of 64 GiB with 2 GiB
// of data scattered over it, a guest that writes small and large as fast as it can; then the kernel's own
// record of the most memory each process ever had resident.
import { randomFillSync, randomInt, randomUUID } from 'node:crypto';
import { NbdClient } from '@tidemark/nbd';
import { RestoreVolume } from '@tidemark/proto';
import { expect, onTestFinished, test } from 'vitest';
import { StorageNodeProcess } from '../../../../scripts/process/storage-node-process.ts';
import { MiB } from '../../src/testing/backups.ts';
import { BackupPair, jobEnd } from '../../src/testing/live-volume.ts';
import { newStep } from '../../src/testing/running-storage-node.ts';
import { temporaryFolder } from '../../src/testing/temporary-folder.ts';

const RESIDENT_BYTES_MAX = 256 * MiB;
const GiB = 1024 * MiB;
const VOLUME_BYTES = 64 * GiB;
/** Pieces of data, one somewhere in each stride, so that every table of the image is needed. */
const PIECES = 2048;
const STRIDE_BYTES = VOLUME_BYTES / PIECES;
const PIECE_BYTES = MiB;
const WRITES_IN_FLIGHT = 16;

async function startStorageNode(name: string): Promise<StorageNodeProcess> {
  const stateDir = await temporaryFolder();
  const storageNode = await StorageNodeProcess.start({ name, stateDir });
  onTestFinished(() => storageNode.stop());
  return storageNode;
}

/** Keeps a number of requests in flight until there is no next one. */
async function keepBusy(next: () => Promise<void> | undefined): Promise<void> {
  const workers = Array.from({ length: WRITES_IN_FLIGHT }, async () => {
    for (let request = next(); request !== undefined; request = next()) await request;
  });
  await Promise.all(workers);
}

/** Returns where the pieces begin. */
async function fill(guest: NbdClient): Promise<number[]> {
  const data = randomFillSync(Buffer.alloc(PIECE_BYTES));
  const offsets = Array.from(
    { length: PIECES },
    (_, index) => index * STRIDE_BYTES + randomInt((STRIDE_BYTES - PIECE_BYTES) / 4096) * 4096,
  );
  let index = 0;
  await keepBusy(() => (index < PIECES ? guest.write(offsets[index++]!, data) : undefined));
  await guest.flush();
  return offsets;
}

/** Writes at random inside the pieces, four small ones to a large one, until told to stop. */
function writeOver(guest: NbdClient, offsets: readonly number[], stopped: () => boolean): Promise<void> {
  const small = randomFillSync(Buffer.alloc(4096));
  const large = randomFillSync(Buffer.alloc(PIECE_BYTES / 4));
  return keepBusy(() => {
    if (stopped()) return undefined;
    const data = randomInt(5) === 0 ? large : small;
    const within = randomInt((PIECE_BYTES - data.length) / 4096) * 4096;
    return guest.write(offsets[randomInt(PIECES)]! + within, data);
  });
}

async function restore(pair: BackupPair<StorageNodeProcess>, backupId: string): Promise<void> {
  const place = { step: newStep(), repositoryId: pair.repositoryId, backupId };
  const { uri, sizeBytes } = await pair.vault.clients.repositories.openBackup(place);
  const value = RestoreVolume.fromPartial({ volumeId: randomUUID(), name: 'restored', format: 'raw' });
  const { jobId } = await pair.source.clients.jobs.startRestore({
    step: newStep(),
    sourceUri: uri,
    sizeBytes,
    speedBytesPerSecond: 0,
    target: { $case: 'volume', value },
  });
  expect((await jobEnd(pair.source, jobId)).error).toBeUndefined();
  await pair.vault.clients.repositories.closeBackup(place);
}

async function expectSmall(storageNodes: Record<string, StorageNodeProcess>): Promise<void> {
  for (const [name, storageNode] of Object.entries(storageNodes)) {
    const peakMiB = Math.ceil((await storageNode.peakResidentBytes()) / MiB);
    expect(peakMiB, `MiB that ${name} had resident at most`).toBeLessThanOrEqual(RESIDENT_BYTES_MAX / MiB);
  }
}

test('a backup under a writing guest, and its restore, stay within 256 MiB a process', async () => {
  const alpha = await startStorageNode('alpha');
  const beta = await startStorageNode('beta');
  const pair = await BackupPair.make(alpha, beta, { volume: { sizeBytes: VOLUME_BYTES } });
  const guest = await NbdClient.connect({ uri: pair.volume.exportUri });
  onTestFinished(() => guest.disconnect());
  const offsets = await fill(guest);

  const backup = await pair.start();
  let over = false;
  const writing = writeOver(guest, offsets, () => over);
  const end = await jobEnd(alpha, backup.jobId);
  over = true;
  await writing;
  expect(end.error).toBeUndefined();
  expect(end.sentBytes).toBeGreaterThanOrEqual(PIECES * PIECE_BYTES);
  await pair.publish(backup);
  await expectSmall({ alpha, beta });

  await restore(pair, backup.backupId);
  await expectSmall({ alpha, beta });
});
