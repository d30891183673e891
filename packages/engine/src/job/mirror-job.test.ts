// Goal: whatever guests write while a mirror runs, and however requests overtake one another and fail, the target is
// equal to the source when the job ends well, and guests read what they wrote. Method: seeded guests on nodes whose
// requests take random times, compared with a model; ended by completing, by a soft cancel, or by a failure.
import { describe, expect, it } from 'vitest';
import { systemClock } from '../clock.ts';
import { EngineError } from '../errors.ts';
import type { Extent } from '../extent.ts';
import { PassThrough } from '../filter/pass-through.ts';
import { BlockGraph } from '../graph/block-graph.ts';
import { PERMISSION } from '../graph/permissions.ts';
import type { BlockNode, WriteZeroesOptions } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import { MemoryNode } from '../testing/memory-node.ts';
import { SeededRandom } from '../testing/seeded-random.ts';
import { KiB } from '../units.ts';
import { JobRegistry } from './job-registry.ts';
import { type StartMirrorOptions, startMirror } from './start-mirror.ts';

const DISK_BYTES = 512 * KiB;
const GUESTS = 4;
const WRITES_EACH = 25;

/** Each request takes some turns of the loop before and after it is done; some fail. */
class SlowNode extends PassThrough {
  readonly driver = 'slow';
  readonly #random: SeededRandom;
  failsOneIn: number;

  constructor(child: BlockNode, random: SeededRandom, failsOneIn = Infinity) {
    super(child);
    this.#random = random;
    this.failsOneIn = failsOneIn;
  }

  override read(offset: number, buffer: Buffer): Pending {
    return this.#later(() => super.read(offset, buffer));
  }
  override write(offset: number, buffer: Buffer): Pending {
    return this.#later(() => super.write(offset, buffer));
  }
  override writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    return this.#later(() => super.writeZeroes(offset, length, options));
  }
  override flush(): Pending {
    return this.#later(() => super.flush());
  }

  override async extents(offset: number, length: number): Promise<Extent[]> {
    await this.#turns();
    const found = await super.extents(offset, length);
    await this.#turns();
    return found;
  }

  async #later(request: () => Pending): Promise<void> {
    await this.#turns();
    if (this.#random.chance(1 / this.failsOneIn)) {
      throw new EngineError('io', 'as the test has it', { errno: 'EIO' });
    }
    await request();
    await this.#turns();
  }

  async #turns(): Promise<void> {
    for (let left = this.#random.int(0, 3); left > 0; left--) await new Promise(setImmediate);
  }
}

function world(seed: number, failsOneIn?: number) {
  const random = new SeededRandom(seed);
  const graph = new BlockGraph();
  const jobs = new JobRegistry(systemClock);
  const memory = {
    source: new MemoryNode({ sizeBytes: DISK_BYTES }),
    target: new MemoryNode({ sizeBytes: DISK_BYTES }),
  };
  graph.add({ name: 'source' }, () => new SlowNode(memory.source, random));
  const slowTarget = new SlowNode(memory.target, random, failsOneIn);
  graph.add({ name: 'target' }, () => slowTarget);
  const guest = graph.attach('source', {
    user: "export 'guest'",
    uses: PERMISSION.consistentRead | PERMISSION.write,
  });
  const start = (options: Partial<StartMirrorOptions>) =>
    startMirror({
      graph,
      jobs,
      clock: systemClock,
      id: 'mirror',
      source: 'source',
      target: 'target',
      sync: 'full',
      granularityBytes: 4 * KiB,
      bufferBytes: 32 * KiB,
      ...options,
    });
  return { random, graph, memory, slowTarget, guest, start };
}

/** Guests with areas of their own, so that a model knows what each byte is at any time. */
async function play(seed: number, options: Partial<StartMirrorOptions>, pivot: boolean): Promise<void> {
  const { random, graph, memory, slowTarget, guest, start } = world(
    seed,
    options.onTargetError === undefined ? undefined : 40,
  );
  const model = Buffer.alloc(DISK_BYTES);
  random.bytes(DISK_BYTES).copy(model);
  await memory.source.write(0, Buffer.from(model));
  const area = DISK_BYTES / GUESTS;
  const write = async (index: number) => {
    const offset = index * area + random.int(0, area - 2);
    const length = random.int(1, Math.min(20 * KiB, (index + 1) * area - offset));
    const data = random.chance(0.25) ? undefined : random.bytes(length);
    if (data === undefined) await guest.writeZeroes(offset, length, { mayUnmap: true });
    else await guest.write(offset, data);
    (data ?? Buffer.alloc(length)).copy(model, offset);
  };
  const writing = Array.from({ length: GUESTS }, async (_, index) => {
    for (let n = 0; n < WRITES_EACH; n++) await write(index);
  });
  const job = await start({ ...options, autoFinalize: false });
  await job.ready;
  if (pivot) job.complete();
  else job.cancel({ force: false });
  while (job.state !== 'pending') await new Promise(setImmediate);
  expect(
    contentsOf(memory.target).equals(contentsOf(memory.source)),
    `the target at its end, seed ${seed}`,
  ).toBe(true);
  slowTarget.failsOneIn = Infinity;
  job.finalize();
  await job.concluded;
  expect(job.error).toBeUndefined();
  await Promise.all(writing);
  const seen = Buffer.alloc(DISK_BYTES);
  await guest.read(0, seen);
  expect(seen.equals(model), `what guests read, seed ${seed}`).toBe(true);
  expect(guest.edge.node.name).toBe(pivot ? 'target' : 'source');
  expect([...graph.nodes].map(({ name }) => name)).toEqual(['source', 'target']);
  await guest.close();
}

function contentsOf(disk: MemoryNode): Buffer {
  const contents = Buffer.alloc(DISK_BYTES);
  void disk.read(0, contents);
  return contents;
}

describe('a mirror', () => {
  for (const copyMode of ['background', 'write-blocking'] as const) {
    it.each(range(1, 40))(`with copy mode ${copyMode} moves guests to an equal disk (seed %i)`, seed =>
      play(seed, { copyMode }, true),
    );
    it.each(range(41, 60))(`with copy mode ${copyMode} lets guests stay (seed %i)`, seed =>
      play(seed, { copyMode }, false),
    );
    it.each(range(61, 80))(`with copy mode ${copyMode} goes on after failures (seed %i)`, seed =>
      play(seed, { copyMode, onTargetError: 'ignore' }, true),
    );

    it.each(range(81, 100))(`with copy mode ${copyMode} is equal once guests rest (seed %i)`, async seed => {
      const { random, memory, guest, start } = world(seed);
      const job = await start({ copyMode, sync: seed % 2 === 0 ? 'full' : 'none' });
      const writes = Array.from({ length: 30 }, async () => {
        const data = Buffer.alloc(random.int(1, 9000), random.int(0, 255));
        await guest.write(random.int(0, DISK_BYTES - data.length), data);
      });
      await job.ready;
      await Promise.all(writes);
      job.cancel({ force: false });
      await job.concluded;
      expect(contentsOf(memory.target).equals(contentsOf(memory.source))).toBe(true);
      await guest.close();
    });
  }

  it('that fails lets guests stay, and everything go', async () => {
    const { graph, guest, start } = world(7, 2);
    const job = await start({ autoDismiss: false });
    await expect(job.ready).rejects.toThrow('as the test has it');
    await job.concluded;
    expect(guest.edge.node.name).toBe('source');
    expect(
      [...graph.nodes].map(({ name, parents, blockers }) => [name, parents.size, blockers.size]),
    ).toEqual([
      ['source', 1, 0],
      ['target', 0, 0],
    ]);
    await guest.write(0, Buffer.alloc(512));
    await guest.close();
  });

  it('that is cancelled before it is ready says so', async () => {
    const { start, guest } = world(8);
    const job = await start({});
    job.cancel();
    await expect(job.ready).rejects.toThrow('Operation canceled');
    await job.concluded;
    await guest.close();
  });

  it('keeps guests where they are when what has to be done before the pivot fails', async () => {
    const { start, guest } = world(9);
    const job = await start({
      beforePivot: () => Promise.reject(new EngineError('io', 'the record is lost')),
    });
    await job.ready;
    job.complete();
    await job.concluded;
    expect(job.error?.message).toBe('the record is lost');
    expect(job.pivoted).toBe(false);
    expect(guest.edge.node.name).toBe('source');
    await guest.write(0, Buffer.alloc(512));
    await guest.close();
  });
});

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}
