// Goal: each verb on a bitmap is allowed or refused by the bitmap's state as QEMU 7.2 does it, in its words,
// and a transaction that fails leaves everything as it was (scenarios BM-01 to BM-15, TX-05, TX-07, INV-6).
// Method: a table of states and verbs, over a memory disk.
import { describe, expect, it } from 'vitest';
import { DirtyBitmap } from '../bitmap/dirty-bitmap.ts';
import { BlockGraph } from '../graph/block-graph.ts';
import { MemoryNode } from '../testing/memory-node.ts';
import { KiB, MiB } from '../units.ts';
import {
  abortTransaction,
  addBitmap,
  clearBitmap,
  disableBitmap,
  enableBitmap,
  findBitmap,
  mergeBitmaps,
  removeBitmap,
} from './bitmap-actions.ts';
import { runTransaction, type TransactionAction } from './transaction.ts';

const ref = (name: string, node = 'disk') => ({ node, name });

function makeGraph(clusterSizeBytes?: number): BlockGraph {
  const graph = new BlockGraph();
  const cluster = clusterSizeBytes === undefined ? {} : { clusterSizeBytes };
  graph.add({ name: 'disk' }, () => new MemoryNode({ sizeBytes: 64 * MiB, ...cluster }));
  graph.add({ name: 'small' }, () => new MemoryNode({ sizeBytes: 32 * MiB }));
  return graph;
}

const bitmapsOf = (graph: BlockGraph) =>
  [...graph.nodes].map(node => [
    node.name,
    ...node.bitmaps.query(),
    ...node.bitmaps.all.map(b => b.bits.sha256()),
  ]);

const run = (graph: BlockGraph, ...actions: TransactionAction[]) => runTransaction(graph, actions);

async function refused(graph: BlockGraph, ...actions: TransactionAction[]): Promise<string> {
  const before = bitmapsOf(graph);
  const error = await run(graph, ...actions).then(
    () => new Error('it was done'),
    (reason: Error) => reason,
  );
  expect(bitmapsOf(graph)).toEqual(before);
  return error.message;
}

describe('a bitmap that is added', () => {
  it.each([
    [undefined, 64 * KiB],
    [512, 4 * KiB],
    [4 * KiB, 4 * KiB],
    [32 * KiB, 32 * KiB],
    [2 * MiB, 64 * KiB],
  ])('on clusters of %s bytes has %i bytes a bit, unless told', async (clusterBytes, expected) => {
    const graph = makeGraph(clusterBytes);
    await run(graph, addBitmap(ref('a')), addBitmap({ ...ref('b'), granularityBytes: 1 * MiB }));
    expect(findBitmap(graph, ref('a')).bits.granularityBytes).toBe(expected);
    expect(findBitmap(graph, ref('b')).bits.granularityBytes).toBe(1 * MiB);
  });

  it.each([0, 1, 256, 513, 64_000, 2 ** 32, -512, 1.5])(
    'cannot have %d bytes a bit',
    async granularityBytes => {
      const text = await refused(makeGraph(), addBitmap({ ...ref('a'), granularityBytes }));
      expect(text).toBe('Granularity must be power of 2 and at least 512');
    },
  );

  it('has a name of 1 to 1023 bytes that is free on its block node', async () => {
    const graph = makeGraph();
    await run(graph, addBitmap(ref('ä'.repeat(511))), addBitmap(ref('x'.repeat(1023))), addBitmap(ref('a')));
    await run(graph, addBitmap(ref('a', 'small')));
    const long = 'ä'.repeat(512);
    expect(await refused(graph, addBitmap(ref(long)))).toBe(`Bitmap name too long: ${long}`);
    expect(await refused(graph, addBitmap(ref('', 'nowhere')))).toBe('Bitmap name cannot be empty');
    expect(await refused(graph, addBitmap(ref('a')))).toBe('Bitmap already exists: a');
    const twice = await refused(graph, addBitmap(ref('new')), addBitmap(ref('new')));
    expect(twice).toBe('Bitmap already exists: new');
    const replaced = await refused(graph, removeBitmap(ref('a')), addBitmap(ref('a')));
    expect(replaced).toBe('Bitmap already exists: a');
  });

  it('is not persistent where there is no place for it', async () => {
    const text = await refused(makeGraph(), addBitmap({ ...ref('a'), persistent: true }));
    expect(text).toBe("Can't store persistent bitmaps to disk: Operation not supported");
  });

  it('comes first in a query, its successor where that one was made', async () => {
    const graph = makeGraph();
    await run(graph, addBitmap(ref('a')), addBitmap(ref('b')));
    const { bitmaps } = graph.get('disk');
    bitmaps.get('a').createSuccessor();
    bitmaps.refresh();
    await run(graph, addBitmap(ref('c')));
    expect(bitmaps.query().map(({ name, busy }) => [name, busy])).toEqual([
      ['c', false],
      [undefined, false],
      ['b', false],
      ['a', true],
    ]);
    bitmaps.get('a').reclaim();
    bitmaps.refresh();
    expect(bitmaps.query().map(({ name, busy }) => [name, busy])).toEqual([
      ['c', false],
      ['b', false],
      ['a', false],
    ]);
  });
});

const BUSY = "Bitmap 'x' is currently in use by another operation and cannot be used";
const READ_ONLY = "Bitmap 'x' is readonly and cannot be modified";
const INCONSISTENT = "Bitmap 'x' is inconsistent and cannot be used";

const STATES: Record<string, (bitmap: DirtyBitmap) => void> = {
  busy: bitmap => bitmap.setBusy(true),
  frozen: bitmap => bitmap.createSuccessor(),
  readOnly: bitmap => bitmap.setReadOnly(true),
  inconsistent: bitmap => bitmap.markInconsistent(),
};

const VERBS: Record<string, () => TransactionAction> = {
  remove: () => removeBitmap(ref('x')),
  clear: () => clearBitmap(ref('x')),
  enable: () => enableBitmap(ref('x')),
  disable: () => disableBitmap(ref('x')),
  'merge into': () => mergeBitmaps(ref('x'), [ref('other')]),
  'merge from': () => mergeBitmaps(ref('other'), [ref('x')]),
};

const ALLOWED = undefined;
const TABLE: Record<string, Record<string, string | undefined>> = {
  remove: { busy: BUSY, frozen: BUSY, readOnly: READ_ONLY, inconsistent: ALLOWED },
  clear: { busy: BUSY, frozen: BUSY, readOnly: READ_ONLY, inconsistent: INCONSISTENT },
  enable: { busy: BUSY, frozen: BUSY, readOnly: ALLOWED, inconsistent: INCONSISTENT },
  disable: { busy: BUSY, frozen: BUSY, readOnly: ALLOWED, inconsistent: INCONSISTENT },
  'merge into': { busy: BUSY, frozen: BUSY, readOnly: READ_ONLY, inconsistent: INCONSISTENT },
  'merge from': { busy: BUSY, frozen: BUSY, readOnly: ALLOWED, inconsistent: INCONSISTENT },
};

const CELLS = Object.entries(TABLE).flatMap(([verb, states]) =>
  Object.entries(states).map(([state, text]) => ({ verb, state, text })),
);

describe('the verbs of a bitmap by its state', () => {
  it.each(CELLS)('$verb when $state', async ({ verb, state, text }) => {
    const graph = makeGraph();
    await run(graph, addBitmap(ref('x')), addBitmap(ref('other')));
    const bitmap = findBitmap(graph, ref('x'));
    bitmap.bits.set(0, 1 * MiB);
    STATES[state]!(bitmap);
    graph.get('disk').bitmaps.refresh();
    if (text === ALLOWED) await run(graph, VERBS[verb]!());
    else expect(await refused(graph, VERBS[verb]!())).toBe(text);
    expect(await refused(graph, VERBS[verb]!(), abortTransaction())).not.toBe('it was done');
  });

  it.each(Object.keys(VERBS))('%s after a remove in the same transaction finds it busy', async verb => {
    const graph = makeGraph();
    await run(graph, addBitmap(ref('x')), addBitmap(ref('other')));
    expect(await refused(graph, removeBitmap(ref('x')), VERBS[verb]!())).toBe(BUSY);
    await run(graph, removeBitmap(ref('x')));
  });

  it.each([clearBitmap, enableBitmap, disableBitmap, removeBitmap])(
    '%# names what is missing',
    async verb => {
      const graph = makeGraph();
      expect(await refused(graph, verb(ref('no')))).toBe("Dirty bitmap 'no' not found");
      expect(await refused(graph, verb(ref('no', 'zip')))).toBe("Node 'zip' not found");
      expect(await refused(graph, abortTransaction(), verb(ref('no', 'zip')))).toMatch(/Abort action$/);
    },
  );
});

describe('a merge', () => {
  it('that fails for its second source has changed nothing', async () => {
    const graph = makeGraph();
    await run(graph, ...['t', 'a', 'b'].map(name => addBitmap(ref(name))), addBitmap(ref('s', 'small')));
    findBitmap(graph, ref('a')).bits.set(0, 1 * MiB);
    const sizes = 'Bitmaps are of different sizes (destination size is 67108864, source size is 33554432)';
    const merge = (...sources: ReturnType<typeof ref>[]) => mergeBitmaps(ref('t'), sources);
    expect(await refused(graph, merge(ref('a'), ref('no')))).toBe("Dirty bitmap 'no' not found");
    expect(await refused(graph, merge(ref('a'), ref('s', 'small')))).toBe(`${sizes} and can't be merged`);
    expect(await refused(graph, merge(ref('a'), ref('b')), abortTransaction())).toMatch(/Abort/);
    findBitmap(graph, ref('b')).markInconsistent();
    expect(await refused(graph, merge(ref('a'), ref('b')))).toMatch(/'b' is inconsistent/);
  });

  it('of nothing, of itself or of one source twice adds what there is, once', async () => {
    const graph = makeGraph();
    await run(graph, addBitmap(ref('t')), addBitmap(ref('a')));
    findBitmap(graph, ref('t')).bits.set(0, 1);
    findBitmap(graph, ref('a')).bits.set(1 * MiB, 1);
    await run(graph, mergeBitmaps(ref('t'), []));
    await run(graph, mergeBitmaps(ref('t'), [ref('t'), ref('a'), ref('a')]));
    expect(findBitmap(graph, ref('t')).info()).toMatchObject({ countBytes: 128 * KiB, recording: true });
    expect(findBitmap(graph, ref('a')).info()).toMatchObject({ countBytes: 64 * KiB });
  });
});

describe('a bitmap whose node is resized', () => {
  it('follows, and refuses as long as somebody holds it', async () => {
    const bitmap = new DirtyBitmap(64 * MiB, { name: 'x', granularityBytes: 64 * KiB });
    bitmap.bits.set(63 * MiB, 1 * MiB);
    bitmap.truncate(32 * MiB);
    bitmap.truncate(64 * MiB);
    expect(bitmap.info().countBytes).toBe(0);
    bitmap.createSuccessor();
    expect(() => bitmap.truncate(32 * MiB)).toThrow(BUSY);
  });
});
