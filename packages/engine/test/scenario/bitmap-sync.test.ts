// Goal: whatever a backup with a bitmap does and however it ends, no write is forgotten (scenario BS-X5,
// INV-2), and what succeeds is the disk of its instant (INV-1). Method: random rounds of writes, jobs of every
// sync and bitmap mode, failures of source and target, and cancels; the chain that an operator would keep is
// kept beside it and compared after each.
import { describe, expect, it } from 'vitest';
import { EngineError } from '../../src/errors.ts';
import { FaultyNode } from '../../src/testing/faulty-node.ts';
import { MemoryNode } from '../../src/testing/memory-node.ts';
import { SeededRandom } from '../../src/testing/seeded-random.ts';
import { addBitmap, findBitmap } from '../../src/transaction/bitmap-actions.ts';
import { runTransaction } from '../../src/transaction/transaction.ts';
import { KiB } from '../../src/units.ts';
import { backupOf, CLUSTER, contents, type DiskFixture, makeDisk } from './disk-fixture.ts';

const CLUSTERS = 24;
/** The last cluster sticks out. */
const SIZE = CLUSTERS * CLUSTER - 1000;
const ROUNDS = 8;
const BITMAP = { node: 'disk', name: 'b' };
const MODES = ['never', 'on-success', 'always'] as const;
const FAULTS = ['none', 'source', 'target', 'cancel'] as const;

const turn = () => new Promise<void>(resolve => setImmediate(resolve));

class Story {
  readonly random: SeededRandom;
  readonly source = new MemoryNode({ sizeBytes: SIZE });
  readonly slowSource: FaultyNode;
  readonly disk: DiskFixture;
  /** What the chain of backups that were kept reads as. */
  kept: Buffer = Buffer.alloc(SIZE);

  constructor(seed: number) {
    this.random = new SeededRandom(seed);
    this.slowSource = this.slow(this.source);
    this.disk = makeDisk({ sizeBytes: SIZE, source: this.slowSource, target: this.source });
  }

  slow(node: MemoryNode): FaultyNode {
    return new FaultyNode(node, { delay: () => (this.random.chance(0.4) ? turn() : undefined) });
  }

  /** One request of the guest. It may fail where a copy before it does: then the disk stays as it was. */
  async write(): Promise<void> {
    const { random, disk } = this;
    const offset = random.int(0, SIZE - 1);
    const length = random.int(1, Math.min(100 * KiB, SIZE - offset));
    try {
      if (random.chance(0.8)) await disk.guest.write(offset, random.bytes(length));
      else await disk.guest.writeZeroes(offset, length, { mayUnmap: true });
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
    }
  }

  async round(number: number): Promise<void> {
    const { random, disk, source, slowSource } = this;
    for (let i = random.int(0, 6); i > 0; i--) await this.write();
    const sync = random.pick(['bitmap', 'bitmap', 'full'] as const);
    const bitmapMode = random.pick(sync === 'full' ? MODES.slice(1) : MODES);
    const fault = random.pick(FAULTS);
    // A target over the chain, as a new image over its backing image.
    const target = new MemoryNode({ sizeBytes: SIZE });
    await target.write(0, this.kept);
    const slowTarget = this.slow(target);
    const name = `target${number}`;
    disk.graph.add({ name }, () => slowTarget);
    const offset = random.int(0, SIZE - 1);
    if (fault === 'source') slowSource.addRule({ event: 'read', offset, errno: 'EIO', once: true });
    if (fault === 'target') slowTarget.addRule({ event: 'write', offset, errno: 'ENOSPC', once: true });
    const action = backupOf(disk, {
      id: `job${number}`,
      target: name,
      targetIsZero: false,
      sync,
      bitmap: 'b',
      bitmapMode,
      workers: random.int(1, 4),
      onCbwError: random.pick(['break-guest-write', 'break-snapshot'] as const),
    });
    await runTransaction(disk.graph, [action]);
    const frozen = await contents(source);
    const job = action.job!;
    const cancelAfter = random.int(0, 10);
    const writes: Promise<void>[] = [];
    for (let i = 0; i < 12; i++) {
      if (fault === 'cancel' && i === cancelAfter && job.state === 'running') job.cancel();
      if (random.chance(0.5)) writes.push(this.write());
      if (random.chance(0.5)) await turn();
    }
    await Promise.all(writes);
    await job.concluded;
    slowSource.clearRules();
    if (job.error === undefined) expect((await contents(target)).equals(frozen)).toBe(true);
    if (job.error === undefined || bitmapMode === 'always') this.kept = await contents(target);
    await disk.graph.remove(name);
    await this.expectNothingForgotten(`${sync} ${bitmapMode} ${fault} in round ${number}`);
  }

  async expectNothingForgotten(what: string): Promise<void> {
    const bitmap = findBitmap(this.disk.graph, BITMAP);
    expect(bitmap.info(), what).toMatchObject({ busy: false, recording: true });
    const now = await contents(this.source);
    const forgotten: number[] = [];
    for (let start = 0; start < SIZE; start += CLUSTER) {
      const same = now.subarray(start, start + CLUSTER).equals(this.kept.subarray(start, start + CLUSTER));
      if (!same && !bitmap.bits.get(start)) forgotten.push(start / CLUSTER);
    }
    expect(forgotten, `${what}, seed ${this.random.seed}`).toEqual([]);
  }
}

describe('a bitmap through random backups', () => {
  it.each(Array.from({ length: 40 }, (_, index) => index + 1))('forgets nothing, seed %i', async seed => {
    const story = new Story(seed);
    await runTransaction(story.disk.graph, [addBitmap({ ...BITMAP, granularityBytes: CLUSTER })]);
    for (let number = 0; number < ROUNDS; number++) await story.round(number);
  });
});
