// Goal: under a drain nothing is on the way, whoever comes while it waits, and whatever is being opened meanwhile.
// Method: requests and drivers that a test holds by hand.
import { expect, test } from 'vitest';
import type { Extent } from '../extent.ts';
import { FaultyNode } from '../testing/faulty-node.ts';
import { settled } from '../testing/manual-clock.ts';
import { MemoryNode } from '../testing/memory-node.ts';
import { BlockGraph } from './block-graph.ts';
import { filterPermissions, PERMISSION } from './permissions.ts';

const WRITER = { user: "export 'guest'", uses: PERMISSION.consistentRead | PERMISSION.write };
const memory = () => new MemoryNode({ sizeBytes: 4096 });

function heldDisk() {
  const graph = new BlockGraph();
  const driver = new FaultyNode(memory());
  const disk = graph.add({ name: 'disk' }, () => driver);
  driver.pause();
  return { graph, driver, disk };
}

test('whoever attaches while a drain waits, waits for its end as well', async () => {
  const { graph, driver, disk } = heldDisk();
  const first = graph.attach('disk', WRITER);
  const writing = first.write(0, Buffer.alloc(512));
  let inFlight = -1;
  const drained = graph.drained([disk], () => {
    inFlight = driver.heldCount;
  });
  const second = graph.attach('disk', { ...WRITER, user: "export 'late'" });
  const late = second.write(512, Buffer.alloc(512));
  await settled();
  driver.release();
  driver.pause();
  await drained;
  expect(inFlight, 'requests on the way at the moment of rest').toBe(0);
  await driver.untilHeld(1);
  driver.release();
  await Promise.all([writing, late]);
  await Promise.all([first.close(), second.close()]);
});

test('who attaches during the section waits, too', async () => {
  const { graph, driver, disk } = heldDisk();
  driver.release();
  const section = Promise.withResolvers<void>();
  const drained = graph.drained([disk], () => section.promise);
  await settled();
  const late = graph.attach('disk', WRITER);
  let isDone = false;
  const writing = late.write(0, Buffer.alloc(512))!.then(() => {
    isDone = true;
  });
  await settled();
  expect(isDone).toBe(false);
  section.resolve();
  await Promise.all([drained, writing]);
  await late.close();
});

test('a job that comes while a drain waits stands still as well', async () => {
  const { graph, driver, disk } = heldDisk();
  const guest = graph.attach('disk', WRITER);
  const writing = guest.write(0, Buffer.alloc(512));
  const calls: string[] = [];
  const drained = graph.drained([disk], () => calls.push('section'));
  disk.writers.add({
    quiesce: async () => void calls.push('quiesce'),
    unquiesce: () => calls.push('unquiesce'),
  });
  driver.release();
  await Promise.all([drained, writing]);
  expect(calls).toEqual(['quiesce', 'section', 'unquiesce']);
});

test('a node that is being opened above is in nobody’s way', async () => {
  const { graph, disk, driver } = heldDisk();
  driver.release();
  const opened = Promise.withResolvers<MemoryNode>();
  const options = { name: 'above', children: { file: 'disk' }, permissions: filterPermissions };
  const opening = graph.open(options, () => opened.promise);
  expect(await graph.drained([disk], () => 'section')).toBe('section');
  const guest = graph.attach('disk', WRITER);
  await guest.write(0, Buffer.alloc(512));
  await graph.resize('disk', 8192);
  expect(disk.sizeBytes).toBe(8192);
  opened.resolve(memory());
  await opening;
});

test('block status counts as a request: it is waited for, and waits', async () => {
  const graph = new BlockGraph();
  const status = Promise.withResolvers<Extent[]>();
  const disk = graph.add({ name: 'disk' }, () => Object.assign(memory(), { extents: () => status.promise }));
  const guest = graph.attach('disk', WRITER);
  const order: string[] = [];
  const asked = Promise.resolve(guest.extents(0, 4096)).then(() => order.push('status'));
  const drained = graph.drained([disk], () => order.push('section'));
  const late = Promise.resolve(guest.extents(0, 4096)).then(() => order.push('late status'));
  await settled();
  expect(order).toEqual([]);
  status.resolve([{ offset: 0, length: 4096, data: true, zero: false, depth: 1 }]);
  await Promise.all([asked, drained, late]);
  expect(order).toEqual(['status', 'section', 'late status']);
});
