// Goal: whatever guests do while their backups are copied, each backup restores to the bytes of its instant; on a disk
// that ends in the middle of a cluster, too. Method: two whole storage nodes, and a guest that writes, zeroes and trims
// at random, right up to the end of its disk, during each of a chain of backups.
import { SeededRandom } from '@tidemark/engine/testing';
import { expect, test } from 'vitest';
import { MiB } from '../src/testing/backups.ts';
import { BackupPair, jobEnd, readDisk, type StartedBackup, withGuest } from '../src/testing/live-volume.ts';
import { RunningStorageNode } from '../src/testing/running-storage-node.ts';

const SIZE = 3 * MiB + 512;

/** Some changes of every kind, the last bytes of the disk among them. */
function change(uri: string, random: SeededRandom, count: number): Promise<void> {
  return withGuest(uri, async guest => {
    const changes = Array.from({ length: count }, (_, n) => {
      const offset = random.int(0, SIZE / 512 - 1) * 512;
      const length = Math.min(SIZE - offset, 512 * random.int(1, 300));
      const kind = random.int(0, 3);
      if (n === 0) return guest.write(SIZE - 512, Buffer.alloc(512, random.int(0, 255)));
      if (kind === 0) return guest.writeZeroes(offset, length);
      if (kind === 1) return guest.trim(offset, length);
      return guest.write(offset, Buffer.alloc(length, random.int(0, 255)));
    });
    await Promise.all(changes);
  });
}

test.each([
  ['raw', false, 1],
  ['qcow2', false, 2],
  ['qcow2', true, 3],
] as const)('a chain of backups of a %s volume (direct: %s, seed %d)', async (format, direct, seed) => {
  const random = new SeededRandom(seed);
  const pair = await BackupPair.make(await RunningStorageNode.start(), await RunningStorageNode.start(), {
    volume: { format, sizeBytes: SIZE },
  });
  const { exportUri } = pair.volume;
  const taken: { backup: StartedBackup; contents: Buffer }[] = [];
  for (let n = 0; n < 5; n++) {
    const parent = taken.at(-1)?.backup;
    await change(exportUri, random, 12);
    const contents = await readDisk(exportUri);
    const speedBytesPerSecond = 4 * MiB;
    const backup = await pair.start({ direct, speedBytesPerSecond, ...(parent && { parent }) });
    await change(exportUri, random, 20);
    expect((await jobEnd(pair.source, backup.jobId)).error).toBeUndefined();
    await pair.publish(backup, parent);
    if (!direct) await pair.release(backup);
    taken.push({ backup, contents });
  }
  for (const { backup, contents } of taken) {
    expect((await pair.restored(backup)).equals(contents)).toBe(true);
  }
});
