// Goal: whatever guests, faults and users do to a backup, its progress never lies, each job ends once, and
// the bits that are left cover what is not on the target (invariants 2, 7, 8, 9 and 12). Method: seeded
// histories of writes, pauses, speeds, cancels and faults against a model; the seed is in the test's name.
import { expect, it } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { BITMAP_MODES } from '../../src/job/backup-job.ts';
import { FaultyNode } from '../../src/testing/faulty-node.ts';
import { MemoryNode } from '../../src/testing/memory-node.ts';
import { SeededRandom } from '../../src/testing/seeded-random.ts';
import { addBitmap } from '../../src/transaction/bitmap-actions.ts';
import { runTransaction } from '../../src/transaction/transaction.ts';
import { MiB } from '../../src/units.ts';
import { backupOf, CLUSTER, contents, makeDisk } from './disk-fixture.ts';

const SIZE = 4 * MiB;
const turn = () => new Promise<void>(resolve => setImmediate(resolve));
const ATTEMPT = (verb: () => void) => {
  try {
    verb();
  } catch {
    // A verb that the state does not accept changes nothing.
  }
};

function makeHistory(seed: number) {
  const random = new SeededRandom(seed);
  const late = () => (random.chance(0.5) ? turn() : undefined);
  const memory = new MemoryNode({ sizeBytes: SIZE });
  const kept = new MemoryNode({ sizeBytes: SIZE });
  const source = new FaultyNode(memory, { delay: late });
  const target = new FaultyNode(kept, { delay: late });
  const disk = makeDisk({ sizeBytes: SIZE, source, target });
  const write = () => {
    const offset = random.int(0, SIZE - 1);
    return disk.guest.write(offset, random.bytes(random.int(1, Math.min(3 * CLUSTER, SIZE - offset))));
  };
  return { random, memory, kept, source, target, disk, write };
}

/** Clusters in which both differ. */
function differing(one: Buffer, other: Buffer): number[] {
  const found: number[] = [];
  for (let offset = 0; offset < SIZE; offset += CLUSTER) {
    if (one.compare(other, offset, offset + CLUSTER, offset, offset + CLUSTER) !== 0) found.push(offset);
  }
  return found;
}

it.each(Array.from({ length: 60 }, (_, seed) => seed))('seed %i', async seed => {
  const { random, memory, kept, source, target, disk, write } = makeHistory(seed);
  await write();
  // The anchor: what the target holds when the bitmap begins.
  await kept.write(0, await contents(memory));
  await runTransaction(disk.graph, [addBitmap({ node: 'disk', name: 'b', granularityBytes: CLUSTER })]);
  for (let i = 0; i < 6; i++) await write();
  const bitmapMode = random.pick(BITMAP_MODES);
  const before = await contents(kept);
  const action = backupOf(disk, {
    clock: systemClock,
    sync: 'bitmap',
    bitmap: 'b',
    bitmapMode,
    targetIsZero: false,
    workers: random.int(1, 8),
    onSourceError: random.pick(['report', 'ignore', 'stop'] as const),
    onTargetError: random.pick(['report', 'ignore', 'stop'] as const),
    autoFinalize: random.chance(0.5),
    autoDismiss: false,
  });
  await runTransaction(disk.graph, [action]);
  const job = action.job!;
  const frozen = await contents(memory);
  for (let step = 0; step < 60 && job.state !== 'concluded'; step++) {
    const { currentBytes, totalBytes } = job.progress();
    expect(currentBytes).toBeLessThanOrEqual(totalBytes);
    if (random.chance(0.1))
      random
        .pick([source, target])
        .addRule({ event: random.pick(['read', 'write'] as const), errno: 'EIO', once: true });
    if (random.chance(0.3)) await Promise.resolve(write()).catch(() => undefined);
    if (random.chance(0.1)) ATTEMPT(() => job.pause());
    if (random.chance(0.1)) ATTEMPT(() => job.setSpeed(random.int(0, 1) * 64 * MiB));
    if (random.chance(0.02)) ATTEMPT(() => job.cancel());
    if (random.chance(0.4)) ATTEMPT(() => job.resume());
    await turn();
  }
  for (const node of [source, target]) node.clearRules();
  while (job.state !== 'concluded') {
    ATTEMPT(() => job.setSpeed(0));
    ATTEMPT(() => job.resume());
    ATTEMPT(() => job.finalize());
    await turn();
  }
  const ends = disk.jobs.eventsAfter(0).filter(({ event }) => /completed|cancelled/.test(event.type));
  expect(ends).toHaveLength(1);
  expect(disk.graph.has('filter')).toBe(false);
  const bitmap = disk.graph.get('disk').bitmaps.get('b');
  expect(bitmap.busy).toBe(false);
  const now = await contents(memory);
  if (job.error === undefined) {
    expect((await contents(kept)).equals(frozen)).toBe(true);
    expect(job.progress().currentBytes).toBe(job.progress().totalBytes);
  }
  // What a chain that ends here would lack, when the target is kept, and when it is thrown away.
  const last = job.error === undefined || bitmapMode === 'always' ? await contents(kept) : before;
  for (const offset of differing(now, bitmapMode === 'never' ? before : last)) {
    expect(bitmap.bits.get(offset), `cluster ${offset / CLUSTER}`).toBe(true);
  }
});
