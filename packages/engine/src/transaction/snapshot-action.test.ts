// Goal: a snapshot's overlay takes over the users of its base at commit, and an aborted transaction leaves graph,
// drivers and guests as they were. Method: memory disks, and an overlay whose driver is a copy over its backing edge.
import { describe, expect, it } from 'vitest';
import { BlockGraph } from '../graph/block-graph.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import { PERMISSION } from '../graph/permissions.ts';
import { MemoryNode } from '../testing/memory-node.ts';
import { MiB } from '../units.ts';
import { abortTransaction, addBitmap } from './bitmap-actions.ts';
import { type Overlay, takeSnapshot } from './snapshot-action.ts';
import { runTransaction } from './transaction.ts';

interface Fixture {
  readonly graph: BlockGraph;
  readonly base: GraphNode;
  readonly overlay: GraphNode;
  readonly log: string[];
}

function makeFixture(): Fixture {
  const graph = new BlockGraph();
  const base = graph.add({ name: 'base' }, () => new MemoryNode({ sizeBytes: MiB }));
  const overlay = graph.add({ name: 'overlay' }, () => new MemoryNode({ sizeBytes: MiB }));
  return { graph, base, overlay, log: [] };
}

function overlayOf({ overlay, log }: Fixture, more: Partial<Overlay> = {}): Overlay {
  return {
    node: overlay,
    canHaveBacking: true,
    reopen: async () => new MemoryNode({ sizeBytes: MiB }),
    commit: () => log.push('commit'),
    discard: async () => void log.push('discard'),
    afterwards: async () => void log.push('afterwards'),
    ...more,
  };
}

function snapshotOf(fixture: Fixture, more?: Partial<Overlay>) {
  return takeSnapshot({
    kind: 'blockdev-snapshot',
    base: graph => graph.get('base'),
    overlay: () => overlayOf(fixture, more),
  });
}

const attach = (graph: BlockGraph, user = 'a guest') =>
  graph.attach('base', { user, uses: PERMISSION.consistentRead | PERMISSION.write });

describe('a snapshot', () => {
  it('lets guests follow to the overlay, and leaves what they wrote before to the base', async () => {
    const fixture = makeFixture();
    const guest = attach(fixture.graph);
    await guest.write(0, Buffer.alloc(512, 1));
    await runTransaction(fixture.graph, [snapshotOf(fixture)]);
    await guest.write(0, Buffer.alloc(512, 2));
    expect(guest.edge.node).toBe(fixture.overlay);
    const bytes = Buffer.alloc(512);
    await fixture.base.read(0, bytes);
    expect(bytes.every(byte => byte === 1)).toBe(true);
    expect(fixture.overlay.children.map(({ role, node }) => [role, node.name])).toEqual([
      ['backing', 'base'],
    ]);
    expect(fixture.log).toEqual(['commit', 'afterwards']);
  });

  it('leaves bitmaps at the base, where a later action of the same transaction finds them', async () => {
    const fixture = makeFixture();
    const guest = attach(fixture.graph);
    await runTransaction(fixture.graph, [snapshotOf(fixture), addBitmap({ node: 'base', name: 'b' })]);
    await guest.write(0, Buffer.alloc(512, 1));
    expect(fixture.base.bitmaps.get('b').bits.dirtyGranules).toBe(0);
  });

  it('that is aborted leaves no edge, the old driver and the guest where it was', async () => {
    const fixture = makeFixture();
    const { graph, base, overlay, log } = fixture;
    const guest = attach(graph);
    await overlay.write(0, Buffer.alloc(512, 7));
    const aborted = runTransaction(graph, [snapshotOf(fixture), abortTransaction()]);
    // Comes while the transaction is under way, and is let through when it is undone.
    const written = guest.write(0, Buffer.alloc(512, 1));
    await expect(aborted).rejects.toThrow('Transaction aborted using Abort action');
    await written;
    expect(guest.edge.node).toBe(base);
    expect([overlay.children, [...overlay.parents]]).toEqual([[], []]);
    const bytes = Buffer.alloc(512);
    await overlay.read(0, bytes);
    expect(bytes.every(byte => byte === 7)).toBe(true);
    await base.read(0, bytes);
    expect(bytes.every(byte => byte === 1)).toBe(true);
    expect(log).toEqual(['discard']);
  });

  it('whose overlay cannot be opened over the base is not taken', async () => {
    const fixture = makeFixture();
    const reopen = () => Promise.reject(new Error('no such luck'));
    const taken = runTransaction(fixture.graph, [snapshotOf(fixture, { reopen })]);
    await expect(taken).rejects.toThrow('no such luck');
    expect(fixture.overlay.children).toEqual([]);
    expect(fixture.log).toEqual(['discard']);
  });

  it('is undone in reverse order where a later one cannot be taken', async () => {
    const fixture = makeFixture();
    const { graph, base, overlay } = fixture;
    const guest = attach(graph);
    const twice = [snapshotOf(fixture), snapshotOf(fixture)];
    await expect(runTransaction(graph, twice)).rejects.toThrow("node is used as backing hd of 'overlay'");
    expect(guest.edge.node).toBe(base);
    expect(overlay.children).toEqual([]);
  });

  it.each([
    ['that is in use', 'The overlay is already in use', {}],
    [
      'without a place for a backing image',
      'The overlay does not support backing images',
      { canHaveBacking: false },
    ],
  ])('is refused for an overlay %s', async (what, text, more) => {
    const fixture = makeFixture();
    if (what === 'that is in use') fixture.graph.attach('overlay', { user: 'somebody', uses: 0 });
    await expect(runTransaction(fixture.graph, [snapshotOf(fixture, more)])).rejects.toThrow(text);
    expect(fixture.overlay.children).toEqual([]);
  });
});
