// Goal: who asked for a copy learns which side failed it, also by a flush. Method: block nodes in memory that fail.
import { expect, test } from 'vitest';
import { systemClock } from '../clock.ts';
import { BlockGraph } from '../graph/block-graph.ts';
import { FaultyNode } from '../testing/faulty-node.ts';
import { MemoryNode } from '../testing/memory-node.ts';
import { MomentJob } from './moment-job.ts';

const SIZE = 1 << 20;

test('a target that fails as it is flushed has failed the copy, and the next copy flushes it again', async () => {
  const graph = new BlockGraph();
  const disk = new MemoryNode({ sizeBytes: SIZE });
  await disk.write(0, Buffer.alloc(SIZE, 7));
  const target = new FaultyNode(new MemoryNode({ sizeBytes: SIZE }));
  graph.add({ name: 'moment' }, () => disk);
  graph.add({ name: 'target' }, () => target);
  const places = { clock: systemClock, graph, source: 'moment', target: 'target' };
  const more = { ...places, targetIsZero: true, broken: () => undefined };
  target.addRule({ event: 'flush', errno: 'EIO' });
  const first = new MomentJob({ ...more, id: 'first' });
  first.start();
  await first.concluded;
  expect(first.error).toMatchObject({ kind: 'io' });
  expect(first.failedSide).toBe('target');
  const rest = { bits: first.remaining(), done: first.progress() };
  expect(rest.bits.dirtyBytes).toBe(0);
  const second = new MomentJob({ ...more, ...rest, id: 'second' });
  second.start();
  await second.concluded;
  expect(second.failedSide).toBe('target');
  target.clearRules();
  const third = new MomentJob({ ...more, ...rest, id: 'third' });
  third.start();
  await third.concluded;
  expect(third.error).toBeUndefined();
});
