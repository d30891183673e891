// Goal: a filter that is taken away leaves nothing on the way to its target.
// Method: a target that holds its writes, and guests that do not wait for them.
import { expect, test } from 'vitest';
import { BlockCopy } from '../copy/block-copy.ts';
import { BlockGraph } from '../graph/block-graph.ts';
import { copyBeforeWritePermissions, PERMISSION } from '../graph/permissions.ts';
import { FaultyNode } from '../testing/faulty-node.ts';
import { ManualClock, settled } from '../testing/manual-clock.ts';
import { MemoryNode } from '../testing/memory-node.ts';
import { KiB } from '../units.ts';
import { CopyBeforeWrite } from './copy-before-write.ts';

const SIZE = 256 * KiB;
const GUEST = { user: "export 'guest'", uses: PERMISSION.consistentRead | PERMISSION.write };

function wired(options: { cbwTimeoutMs?: number; feedFromReads?: boolean }) {
  const clock = new ManualClock();
  const graph = new BlockGraph();
  const target = new FaultyNode(new MemoryNode({ sizeBytes: SIZE }));
  const disk = new MemoryNode({ sizeBytes: SIZE });
  disk.write(0, Buffer.alloc(SIZE, 0x11));
  graph.add({ name: 'disk' }, () => disk);
  graph.add({ name: 'target' }, () => target);
  const children = { file: 'disk', target: 'target' };
  graph.add({ name: 'cbw', children, permissions: copyBeforeWritePermissions }, ({ file, target: to }) => {
    const ends = { source: file!, target: to! };
    const copy = new BlockCopy({ ...ends, targetIsZero: false });
    copy.copyBitmap.setAll();
    const rest = { onCbwError: 'break-snapshot', cbwTimeoutMs: 0, clock } as const;
    return new CopyBeforeWrite({ ...ends, copy, ...rest, ...options });
  });
  target.pause(event => event === 'write');
  return { clock, graph, target, guest: graph.attach('cbw', GUEST) };
}

async function removedOnlyAfter({ graph, target }: ReturnType<typeof wired>): Promise<void> {
  let isRemoved = false;
  const removed = graph.remove('cbw').then(() => {
    isRemoved = true;
  });
  await settled();
  expect(isRemoved).toBe(false);
  target.release();
  await removed;
  await graph.remove('target');
}

test('a copy that came too late for its guest', async () => {
  const wiring = wired({ cbwTimeoutMs: 1000 });
  const { clock, target, guest } = wiring;
  const written = guest.write(0, Buffer.alloc(4 * KiB, 1));
  await target.untilHeld(1);
  await clock.advance(1000);
  await written;
  await guest.close();
  await removedOnlyAfter(wiring);
});

test('a copy that a guest has fed', async () => {
  const wiring = wired({ feedFromReads: true });
  const { target, guest } = wiring;
  await guest.read(0, Buffer.alloc(64 * KiB));
  await target.untilHeld(1);
  await guest.close();
  await removedOnlyAfter(wiring);
});
