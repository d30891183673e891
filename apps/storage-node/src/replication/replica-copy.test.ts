// Goal: a replica gets what the checksums name and nothing else, and what was changed on its way is noticed and asked
// for again. Method: disks in memory, at random, with a way between them that changes bytes.
import { isUnreadable } from '@tidemark/engine';
import { MemoryNode, SeededRandom } from '@tidemark/engine/testing';
import { expect, test } from 'vitest';
import {
  CLUSTER_BYTES,
  clusterDigest,
  RECORD_BYTES,
  recordsOf,
  sumsBytes,
  ZEROES_RECORD,
} from '../sums/sums-format.ts';
import { SumsReader } from '../sums/sums-reader.ts';
import { copyReplica, type ReplicaCopyOptions } from './replica-copy.ts';

const SIZE = 40 * CLUSTER_BYTES + 512;

/** Clusters that are nothing, zeroes or data, by chance. */
async function randomBackup(random: SeededRandom, options: { isFlat: boolean }) {
  const disk = new MemoryNode({ sizeBytes: SIZE });
  const sums = new MemoryNode({ sizeBytes: sumsBytes(SIZE) });
  const expected = Buffer.alloc(SIZE, 'below');
  if (options.isFlat) expected.fill(0);
  let dataBytes = 0;
  for (let cluster = 0; cluster < recordsOf(SIZE); cluster++) {
    const offset = cluster * CLUSTER_BYTES;
    const what = random.int(0, options.isFlat ? 1 : 2);
    if (what === 2) continue;
    const bytes = Buffer.alloc(Math.min(CLUSTER_BYTES, SIZE - offset), what === 0 ? 0 : random.int(1, 255));
    await disk.write(offset, bytes);
    await sums.write(cluster * RECORD_BYTES, what === 0 ? ZEROES_RECORD : clusterDigest(bytes));
    bytes.copy(expected, offset);
    if (what === 1) dataBytes += bytes.length;
  }
  return { disk, sums, expected, dataBytes };
}

type Backup = Awaited<ReturnType<typeof randomBackup>>;

async function copied(backup: Backup, options: Partial<ReplicaCopyOptions> = {}) {
  const target = new MemoryNode({ sizeBytes: SIZE });
  await target.write(0, options.isFlat ? Buffer.alloc(SIZE) : Buffer.alloc(SIZE, 'below'));
  const targetSums = new MemoryNode({ sizeBytes: sumsBytes(SIZE) });
  const told = { seenBytes: 0, sentBytes: 0 };
  const wanted: ReplicaCopyOptions = {
    ...{ source: backup.disk, target, targetSums, sizeBytes: SIZE, isFlat: false, isUnreadable },
    records: new SumsReader(backup.sums, recordsOf(SIZE)),
    onDamage: offset => {
      throw new Error(`damaged at ${offset}`);
    },
    pace: async ({ seenBytes, sentBytes }) => {
      told.seenBytes += seenBytes;
      told.sentBytes += sentBytes;
    },
    ...options,
  };
  await copyReplica(wanted);
  const bytes = Buffer.alloc(SIZE);
  await target.read(0, bytes);
  return { bytes, told, targetSums, target, wanted };
}

test.each([false, true])('all that is named comes, once (flat: %s)', async isFlat => {
  for (let seed = 1; seed <= 20; seed++) {
    const backup = await randomBackup(new SeededRandom(seed), { isFlat });
    const { bytes, told, wanted } = await copied(backup, { isFlat });
    expect(bytes.equals(backup.expected), `seed ${seed}`).toBe(true);
    expect(told).toEqual({ seenBytes: SIZE, sentBytes: backup.dataBytes });
    // A second copy finds all of it.
    await copyReplica(wanted);
    expect(told).toEqual({ seenBytes: 2 * SIZE, sentBytes: backup.dataBytes });
  }
});

test('what was changed on its way is asked for again; what stays changed is damage', async () => {
  const backup = await randomBackup(new SeededRandom(7), { isFlat: true });
  const changing = (times: number) => {
    const asked = new Map<number, number>();
    return {
      read: async (offset: number, buffer: Buffer) => {
        await backup.disk.read(offset, buffer);
        // Of a request the last byte; the cluster that is asked for again ends with the same.
        const end = offset + buffer.length;
        const before = asked.get(end) ?? 0;
        asked.set(end, before + 1);
        if (before < times) buffer[buffer.length - 1]! ^= 1;
      },
    };
  };
  const { bytes } = await copied(backup, { isFlat: true, source: changing(1) });
  expect(bytes.equals(backup.expected)).toBe(true);
  await expect(copied(backup, { isFlat: true, source: changing(9) })).rejects.toThrow(/damaged at \d+/);
});

test('a copy that stops leaves what came, with its checksums', async () => {
  const backup = await randomBackup(new SeededRandom(3), { isFlat: false });
  let left = 3;
  const target = new MemoryNode({ sizeBytes: SIZE });
  await target.write(0, Buffer.alloc(SIZE, 'below'));
  const targetSums = new MemoryNode({ sizeBytes: sumsBytes(SIZE) });
  const pace = async () => {
    if (left-- === 0) throw new Error('stop');
  };
  await expect(copied(backup, { target, targetSums, pace })).rejects.toThrow('stop');
  const sent: number[] = [];
  await copied(backup, {
    ...{ target, targetSums },
    pace: async ({ sentBytes }) => void sent.push(sentBytes),
  });
  expect(sent.reduce((sum, bytes) => sum + bytes, 0)).toBeLessThan(backup.dataBytes);
  const bytes = Buffer.alloc(SIZE);
  await target.read(0, bytes);
  expect(bytes.equals(backup.expected)).toBe(true);
});
