// Goal: exports and their server go as a whole, whoever else adds and removes exports meanwhile.
// Method: a disk that holds a client's write, so that removing takes as long as the test wants.
import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BlockGraph, MiB } from '@tidemark/engine';
import { FaultyNode, MemoryNode } from '@tidemark/engine/testing';
import { NbdClient } from '@tidemark/nbd';
import { afterEach, expect, test } from 'vitest';
import { ExportRegistry } from './export-registry.ts';

const path = join(tmpdir(), `tidemark-exports-${randomUUID()}.sock`);
afterEach(() => rm(path, { force: true }));

async function served() {
  const graph = new BlockGraph();
  const disk = new FaultyNode(new MemoryNode({ sizeBytes: MiB }));
  const node = graph.add({ name: 'disk' }, () => disk);
  const deleted: string[] = [];
  const exports = new ExportRegistry({ graph, deleted: id => deleted.push(id) });
  await exports.startServer({ type: 'unix', path });
  const add = (id: string) =>
    exports.add({
      id,
      nodeName: 'disk',
      exportName: id,
      writable: true,
      allocationDepth: false,
      bitmaps: [],
    });
  for (const id of ['one', 'two']) add(id);
  return { node, disk, exports, deleted, add };
}

/** A client of export `one`, whose write the disk holds. */
async function stuckClient({ disk }: { disk: FaultyNode }): Promise<void> {
  const client = await NbdClient.connect({ uri: `nbd+unix:///one?socket=${path}` });
  disk.pause();
  client.write(0, Buffer.alloc(512)).catch(() => undefined);
  await disk.untilHeld(1);
}

test('an export that somebody else removes meanwhile does not keep the server', async () => {
  const { node, disk, exports, deleted } = await served();
  await stuckClient({ disk });
  const stopped = exports.stopServer();
  await exports.remove('two', 'hard');
  disk.release();
  await stopped;
  expect(deleted).toEqual(['two', 'one']);
  expect([exports.list(), node.parents.size]).toEqual([[], 0]);
  await exports.startServer({ type: 'unix', path });
  await exports.close();
});

test('nothing is added to a server that is being stopped', async () => {
  const { node, disk, exports, add } = await served();
  await stuckClient({ disk });
  const stopped = exports.stopServer();
  expect(() => add('late')).toThrow('NBD server not running');
  await expect(exports.stopServer()).rejects.toThrow('NBD server not running');
  const closed = exports.close();
  disk.release();
  await Promise.all([stopped, closed]);
  expect([exports.list(), node.parents.size]).toEqual([[], 0]);
});

test('a removal under way is waited for, and told of once', async () => {
  const { node, disk, exports, deleted } = await served();
  await stuckClient({ disk });
  const removed = exports.remove('one', 'hard');
  expect(exports.list()).toContainEqual({ id: 'one', nodeName: 'disk', shuttingDown: true });
  const stopped = exports.stopServer();
  disk.release();
  await Promise.all([removed, stopped]);
  expect(deleted).toEqual(['one', 'two']);
  expect(node.parents.size).toBe(0);
});
