// Goal: behind a fence nothing changes and everything can be read, whoever comes meanwhile, until it is opened or its
// time is over; and what waited is told. Method: requests that a test holds by hand, and a clock that it moves.
import { expect, test } from 'vitest';
import { FaultyNode } from '../testing/faulty-node.ts';
import { ManualClock, settled } from '../testing/manual-clock.ts';
import { MemoryNode } from '../testing/memory-node.ts';
import { BlockGraph } from './block-graph.ts';
import { PERMISSION } from './permissions.ts';

const WRITER = { user: "export 'guest'", uses: PERMISSION.consistentRead | PERMISSION.write };
const LIMIT_MS = 500;

function fencedDisk() {
  const clock = new ManualClock();
  const graph = new BlockGraph();
  const driver = new FaultyNode(new MemoryNode({ sizeBytes: 4096 }));
  const disk = graph.add({ name: 'disk' }, () => driver);
  const guest = graph.attach('disk', WRITER);
  let breaks = 0;
  const close = () => graph.fence([disk], { clock, limitMs: LIMIT_MS, onBroken: () => breaks++ });
  return { clock, graph, driver, disk, guest, close, breaks: () => breaks };
}

/** In the order of their ends. */
function watch(names: string[], requests: Record<string, Promise<void> | undefined>): Promise<unknown> {
  return Promise.all(
    Object.entries(requests).map(async ([name, request]) => {
      await request;
      names.push(name);
    }),
  );
}

test('changes of every kind wait, reads do not; afterwards they go on in the order in which they came', async () => {
  const { clock, guest, close } = fencedDisk();
  await guest.write(0, Buffer.alloc(512, 1));
  const fence = close();
  await fence.rested();
  const done: string[] = [];
  const all = watch(done, {
    write: guest.write(0, Buffer.alloc(512, 2)),
    zeroes: guest.writeZeroes(512, 512, { mayUnmap: true }),
    discard: guest.discard(1024, 512),
    flush: guest.flush(),
  });
  const seen = Buffer.alloc(512);
  await guest.read(0, seen);
  expect(seen[0]).toBe(1);
  expect(await guest.extents(0, 4096)).not.toEqual([]);
  await clock.advance(LIMIT_MS - 1);
  expect(done).toEqual([]);
  expect(fence.open()).toBe(true);
  await all;
  expect(done).toEqual(['write', 'zeroes', 'discard', 'flush']);
  await guest.read(0, seen);
  expect(seen[0]).toBe(2);
  expect(fence.report()).toEqual({
    heldMs: LIMIT_MS - 1,
    waits: 4,
    waitP99Ms: LIMIT_MS - 1,
    waitMaxMs: LIMIT_MS - 1,
  });
});

test('a flush goes on where no change is held', async () => {
  const { guest, close } = fencedDisk();
  const fence = close();
  await guest.flush();
  expect(fence.open()).toBe(true);
});

test('it is at rest when the last change in flight has ended, however many reads there are', async () => {
  const { driver, guest, close } = fencedDisk();
  driver.pause();
  const writing = guest.write(0, Buffer.alloc(512, 1));
  const fence = close();
  let isRested = false;
  const resting = fence.rested().then(() => {
    isRested = true;
  });
  await settled();
  expect(isRested).toBe(false);
  driver.release();
  driver.pause();
  const reading = guest.read(0, Buffer.alloc(512));
  await Promise.all([writing, resting]);
  expect(driver.heldCount, 'reads on the way').toBe(1);
  driver.release();
  await reading;
  expect(fence.open()).toBe(true);
});

test('whoever attaches later stands before it, too', async () => {
  const { graph, guest, close } = fencedDisk();
  const fence = close();
  const late = graph.attach('disk', { ...WRITER, user: "export 'late'" });
  const done: string[] = [];
  const all = watch(done, { late: late.write(0, Buffer.alloc(512, 1)) });
  await settled();
  expect(done).toEqual([]);
  fence.open();
  await all;
  await Promise.all([late.close(), guest.close()]);
});

test('it opens by itself when its time is over, and is broken for good', async () => {
  const { clock, guest, close, breaks } = fencedDisk();
  const fence = close();
  const writing = guest.write(0, Buffer.alloc(512, 1));
  await clock.advance(LIMIT_MS);
  await writing;
  expect(fence).toMatchObject({ holds: false, broken: true });
  expect(fence.open()).toBe(false);
  expect(breaks()).toBe(1);
  expect(fence.report()).toMatchObject({ heldMs: LIMIT_MS, waits: 1, waitMaxMs: LIMIT_MS });
});

test('a write that hangs does not keep it closed: rest ends with the fence', async () => {
  const { clock, driver, guest, close } = fencedDisk();
  driver.pause();
  const hanging = guest.write(0, Buffer.alloc(512, 1));
  const fence = close();
  const resting = fence.rested();
  const late = guest.write(512, Buffer.alloc(512, 1));
  await clock.advance(LIMIT_MS);
  await resting;
  expect(fence.holds).toBe(false);
  driver.release();
  await Promise.all([hanging, late]);
});

test('opened in time it tells nobody, and its timer is gone', async () => {
  const { clock, close, breaks } = fencedDisk();
  const fence = close();
  expect(fence.open()).toBe(true);
  await clock.advance(10 * LIMIT_MS);
  expect(breaks()).toBe(0);
  expect(fence.broken).toBe(false);
});

test('within a fence the graph can be changed at rest, and the changes go on waiting', async () => {
  const { graph, disk, guest, close } = fencedDisk();
  const fence = close();
  const done: string[] = [];
  const all = watch(done, { write: guest.write(0, Buffer.alloc(512, 1)) });
  await graph.drained([disk], () => undefined);
  await settled();
  expect(done).toEqual([]);
  expect(fence.open()).toBe(true);
  await all;
});
