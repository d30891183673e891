// What every block node must do, as a vitest suite: a driver's own test is a factory and one call.
import { afterEach, describe, expect, test } from 'vitest';
import type { BlockNode } from '../node/block-node.ts';
import { KiB, MiB } from '../units.ts';
import { ModelDisk } from './model-disk.ts';
import { SeededRandom } from './seeded-random.ts';

export interface ConformanceOptions {
  /** Makes a writable node of that size; whatever it holds at first is taken as given. */
  create(sizeBytes: number): Promise<BlockNode>;
  /** Closes the node and opens the same storage again; left out where nothing persists. */
  reopen?(node: BlockNode): Promise<BlockNode>;
  /** Called after each test, when the node has been closed. */
  cleanUp?(): Promise<void>;
  /** Size of the disk under test; default 4 MiB, not a multiple of a large cluster. */
  sizeBytes?: number;
  /** Seed of the random history; default 1. */
  seed?: number;
}

/** Runs the suite under the given name; to be called at the top level of a test file. */
export function describeBlockNode(name: string, options: ConformanceOptions): void {
  const size = options.sizeBytes ?? 4 * MiB + 12 * KiB;
  let node: BlockNode;
  let model: ModelDisk;

  async function start(): Promise<void> {
    node = await options.create(size);
    model = new ModelDisk(size);
    await node.read(0, model.bytes);
  }

  async function check(what: string): Promise<void> {
    const actual = Buffer.alloc(size, 0xee);
    await node.read(0, actual);
    model.assertEqual(0, actual, what);
  }

  describe(`block node: ${name}`, () => {
    afterEach(async () => {
      await node?.close();
      await options.cleanUp?.();
    });

    test('has the size and the capabilities it says', async () => {
      await start();
      expect(node.sizeBytes).toBe(size);
      expect(node.readOnly).toBe(false);
      expect(size % node.requestAlignmentBytes).toBe(0);
    });

    test('reads what was written, and leaves the bytes beside it alone', async () => {
      await start();
      const unit = node.requestAlignmentBytes;
      for (const [offset, length] of [
        [0, unit],
        [64 * KiB - unit, 2 * unit],
        [MiB, 256 * KiB],
        [size - unit, unit],
      ] as const) {
        const data = new SeededRandom(offset).bytes(length);
        await node.write(offset, data);
        model.write(offset, data);
      }
      await check('after writes');
    });

    test('reads zeroes where zeroes were written, with and without unmapping', async () => {
      await start();
      const data = new SeededRandom(3).bytes(2 * MiB);
      await node.write(0, data);
      model.write(0, data);
      const unit = node.requestAlignmentBytes;
      for (const [offset, length, mayUnmap] of [
        [0, 256 * KiB, true],
        [512 * KiB, 128 * KiB, false],
        [1 * MiB + unit, 300 * KiB, true],
        [3 * MiB, size - 3 * MiB, false],
      ] as const) {
        await node.writeZeroes(offset, length, { mayUnmap });
        model.writeZeroes(offset, length);
      }
      await check('after write zeroes');
    });

    test('discards only inside the range', async () => {
      await start();
      const data = new SeededRandom(4).bytes(1 * MiB);
      await node.write(0, data);
      await node.discard(256 * KiB + node.requestAlignmentBytes, 256 * KiB);
      const before = Buffer.alloc(256 * KiB);
      await node.read(0, before);
      expect(before.equals(data.subarray(0, 256 * KiB))).toBe(true);
      const after = Buffer.alloc(256 * KiB);
      await node.read(768 * KiB, after);
      expect(after.equals(data.subarray(768 * KiB))).toBe(true);
    });

    test('reports extents in order, without gaps, that agree with the content', async () => {
      await start();
      await node.write(128 * KiB, Buffer.alloc(64 * KiB, 7));
      await node.write(2 * MiB, Buffer.alloc(64 * KiB, 8));
      await node.writeZeroes(MiB, 64 * KiB, { mayUnmap: true });
      await expectExtentsAgree(node, 0, size);
      await expectExtentsAgree(node, 128 * KiB + 512, MiB);
    });

    test('keeps concurrent writes to parts of the same stretch apart', async () => {
      await start();
      const unit = Math.max(512, node.requestAlignmentBytes);
      const writes: Promise<void>[] = [];
      for (let index = 0; index < 128; index++) {
        const data = Buffer.alloc(unit, index + 1);
        model.write(MiB + index * unit, data);
        writes.push(Promise.resolve(node.write(MiB + index * unit, data)));
      }
      await Promise.all(writes);
      await check('after concurrent writes');
    });

    test('agrees with a model over a random history of concurrent requests', async () => {
      await start();
      await runHistory(node, model, new SeededRandom(options.seed ?? 1), 40);
      await check('after the history');
      await node.flush();
      if (options.reopen === undefined) return;
      node = await options.reopen(node);
      await check('after opening again');
    });
  });
}

/** Rounds of requests that do not overlap within the round and run all at once. */
async function runHistory(
  node: BlockNode,
  model: ModelDisk,
  random: SeededRandom,
  rounds: number,
): Promise<void> {
  const unit = node.requestAlignmentBytes;
  for (let round = 0; round < rounds; round++) {
    const pending: Promise<void>[] = [];
    for (let position = 0; position < model.sizeBytes; ) {
      const length = Math.min(
        random.int(1, Math.ceil((700 * KiB) / unit)) * unit,
        model.sizeBytes - position,
      );
      pending.push(startRequest(node, model, random, position, length));
      position += length + random.int(0, 64) * unit;
    }
    await Promise.all(pending);
  }
}

async function startRequest(
  node: BlockNode,
  model: ModelDisk,
  random: SeededRandom,
  offset: number,
  length: number,
): Promise<void> {
  const dice = random.int(0, 9);
  if (dice < 4) {
    const data = random.bytes(length);
    model.write(offset, data);
    await node.write(offset, data);
  } else if (dice < 6) {
    model.writeZeroes(offset, length);
    await node.writeZeroes(offset, length, { mayUnmap: random.chance(0.5) });
  } else {
    const actual = Buffer.alloc(length, 0xee);
    const expected = model.read(offset, length);
    await node.read(offset, actual);
    expect(actual.equals(expected), `seed ${random.seed}: read of ${length} at ${offset}`).toBe(true);
  }
}

/** Walks the range by `extents` and reads every stretch that claims to be zero. */
async function expectExtentsAgree(node: BlockNode, offset: number, length: number): Promise<void> {
  const end = offset + length;
  for (let position = offset; position < end; ) {
    const extents = await node.extents(position, end - position);
    expect(extents.length).toBeGreaterThan(0);
    for (const extent of extents) {
      expect(extent.offset).toBe(position);
      expect(extent.length).toBeGreaterThan(0);
      position += extent.length;
      expect(position).toBeLessThanOrEqual(end);
      if (!extent.zero) continue;
      const content = Buffer.alloc(extent.length, 0xee);
      await node.read(extent.offset, content);
      expect(content.every(byte => byte === 0)).toBe(true);
    }
  }
}
