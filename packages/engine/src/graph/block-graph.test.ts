// Goal: block nodes that take time to open, and changes of nodes in use, happen as a whole or not at all.
// Method: drivers that a test opens, fails and holds by hand.
import { describe, expect, test } from 'vitest';
import { EngineError } from '../errors.ts';
import { FaultyNode } from '../testing/faulty-node.ts';
import { MemoryNode } from '../testing/memory-node.ts';
import { BlockGraph } from './block-graph.ts';
import type { GraphChange } from './graph-change.ts';
import { filterPermissions, formatPermissions, PERMISSION } from './permissions.ts';

class ClosableNode extends MemoryNode {
  closed = 0;

  override async close(): Promise<void> {
    this.closed++;
  }
}

const memory = () => new ClosableNode({ sizeBytes: 4096 });
const WRITER = { user: "export 'guest'", uses: PERMISSION.consistentRead | PERMISSION.write };

function makeGraph(): BlockGraph {
  const graph = new BlockGraph();
  graph.add({ name: 'file' }, memory);
  return graph;
}

describe('opening', () => {
  test('reserves the name, and shows the node only once it is open', async () => {
    const graph = makeGraph();
    const driver = Promise.withResolvers<MemoryNode>();
    const opening = graph.open({ name: 'disk', children: { file: 'file' } }, () => driver.promise);
    expect(graph.has('disk')).toBe(false);
    expect(() => graph.add({ name: 'disk' }, memory)).toThrow("Duplicate nodes with node-name='disk'");
    await expect(graph.open({ name: 'disk' }, async () => memory())).rejects.toThrow('Duplicate nodes');
    await expect(graph.remove('file')).rejects.toThrow('Block device file is in use');
    driver.resolve(memory());
    expect(await opening).toBe(graph.get('disk'));
  });

  test('settles permissions before the driver reads anything', async () => {
    const graph = makeGraph();
    await graph.open({ name: 'one', children: { file: 'file' } }, async () => memory());
    let called = false;
    const opening = graph.open({ name: 'two', children: { file: 'file' } }, async () => {
      called = true;
      return memory();
    });
    await expect(opening).rejects.toMatchObject({ kind: 'conflict' });
    expect(called).toBe(false);
    expect(graph.get('file').parents.size).toBe(1);
  });

  test('that fails leaves nothing: no name, no edge, no child of its own', async () => {
    const graph = makeGraph();
    const child = memory();
    graph.add({ name: 'child', owner: 'parents' }, () => child);
    const opening = graph.open({ name: 'disk', children: { file: 'child' } }, async ({ addChild }) => {
      addChild('backing', 'file');
      throw new EngineError('invalid-format', 'Image is not in qcow2 format');
    });
    await expect(opening).rejects.toThrow('Image is not in qcow2 format');
    expect([...graph.nodes].map(node => node.name)).toEqual(['file']);
    expect(graph.get('file').parents.size).toBe(0);
    expect(child.closed).toBe(1);
    await graph.open({ name: 'disk' }, async () => memory());
  });

  test('closes a driver that the graph cannot take in after all', async () => {
    const graph = makeGraph();
    const driver = Object.assign(memory(), {
      setPermissions(): never {
        throw new EngineError('busy', 'Failed to get "write" lock');
      },
    });
    await expect(graph.open({ name: 'disk' }, async () => driver)).rejects.toMatchObject({ kind: 'busy' });
    expect(driver.closed).toBe(1);
    expect(graph.has('disk')).toBe(false);
  });
});

test('removing the last user closes the children that came with it, to the bottom', async () => {
  const graph = makeGraph();
  const drivers = { low: memory(), middle: memory() };
  graph.add({ name: 'low', owner: 'parents' }, () => drivers.low);
  graph.add({ name: 'middle', owner: 'parents', children: { file: 'low' } }, () => drivers.middle);
  graph.add({ name: 'top', children: { file: 'middle' } }, memory);
  expect(() => graph.get('middle').assertUnused({ byName: true })).toThrow('not owned by the monitor');
  await graph.remove('top');
  expect([...graph.nodes].map(node => node.name)).toEqual(['file']);
  expect([drivers.low.closed, drivers.middle.closed]).toEqual([1, 1]);
});

test('a chain of block nodes has an end', () => {
  const graph = makeGraph();
  let below = 'file';
  const add = (index: number) => {
    const options = { children: { file: below }, permissions: filterPermissions };
    below = graph.add({ name: `n${index}`, ...options }, memory).name;
  };
  expect(() => {
    for (let index = 0; index < 600; index++) add(index);
  }).toThrow(/levels of block nodes below it/);
});

describe('a change', () => {
  const steps = (apply: (change: GraphChange) => void, prepare = async () => {}) => {
    const seen: string[] = [];
    return {
      seen,
      begin: async () => void seen.push('begin'),
      apply,
      prepare,
      commit: () => void seen.push('commit'),
    };
  };

  test('waits for what is in flight, and lets what comes meanwhile go the new way', async () => {
    const graph = new BlockGraph();
    const [old, fresh] = [new FaultyNode(new MemoryNode({ sizeBytes: 4096 })), memory()];
    graph.add({ name: 'old' }, () => old);
    graph.add({ name: 'new' }, () => fresh);
    const permissions = filterPermissions;
    graph.add({ name: 'disk', children: { file: 'old' }, permissions }, ({ file }) => file!);
    const guest = graph.attach('disk', WRITER);
    old.pause();
    const first = guest.write(0, Buffer.alloc(512, 1));
    const change = steps(to => to.setChild(graph.get('disk'), 'file', graph.get('new')));
    const changing = graph.change([graph.get('disk')], change);
    await new Promise(resolve => setImmediate(resolve));
    const second = guest.write(512, Buffer.alloc(512, 2));
    expect(change.seen).toEqual([]);
    old.release();
    await Promise.all([first, changing, second]);
    expect(change.seen).toEqual(['begin', 'commit']);
    const read = Buffer.alloc(1024);
    await fresh.read(0, read);
    expect([read[0], read[512]]).toEqual([0, 2]);
  });

  test('makes jobs that read at the nodes stand still', async () => {
    const graph = makeGraph();
    const seen: string[] = [];
    const job = { quiesce: async () => void seen.push('still'), unquiesce: () => void seen.push('on') };
    graph.add({ name: 'filter', children: { file: 'file' }, permissions: filterPermissions }, memory);
    graph.get('filter').readers.add(job);
    await graph.change(
      [graph.get('file')],
      steps(() => void seen.push('change')),
    );
    expect(seen).toEqual(['still', 'change', 'on']);
  });

  test('of which a part is refused has not happened at all', async () => {
    const graph = makeGraph();
    graph.add({ name: 'other' }, memory);
    const permissions = filterPermissions;
    for (const name of ['one', 'two']) graph.add({ name, children: { file: 'file' }, permissions }, memory);
    graph.attach('two', WRITER);
    const [one, two] = [graph.get('one'), graph.get('two')];
    const refused = steps(change => {
      change.setChild(one, 'file', graph.get('other'));
      change.setPolicy(one, { ignoreDiscard: true, detectZeroes: 'on' });
      change.setReadOnly(two, true);
    });
    const text = "Read-only block node 'two' cannot support read-write users";
    await expect(graph.change([one, two], refused)).rejects.toThrow(text);
    expect(refused.seen).toEqual(['begin']);
    expect(one.children[0]?.node).toBe(graph.get('file'));
    expect([one.ignoreDiscard, one.detectZeroes, two.readOnly]).toEqual([false, 'off', false]);
    const failing = steps(
      change => {
        change.setChild(one, 'file', undefined);
        change.setDriver(one, memory());
      },
      async () => {
        throw new EngineError('io', 'the driver cannot be opened again');
      },
    );
    await expect(graph.change([one], failing)).rejects.toThrow('cannot be opened again');
    expect(one.children[0]?.node).toBe(graph.get('file'));
  });

  test('closes the child that nobody uses any more', async () => {
    const graph = makeGraph();
    const child = memory();
    graph.add({ name: 'child', owner: 'parents' }, () => child);
    graph.add({ name: 'disk', children: { file: 'child' }, permissions: formatPermissions }, memory);
    const change = steps(to => to.setChild(graph.get('disk'), 'file', graph.get('file')));
    await graph.change([graph.get('disk')], change);
    expect(child.closed).toBe(1);
    expect(graph.has('child')).toBe(false);
  });
});
