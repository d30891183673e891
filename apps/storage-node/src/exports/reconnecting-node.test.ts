// Goal: a server that goes away and comes back costs nobody a request, one that stays away costs no more than
// the time allowed. Method: a real server on a socket of its own, stopped and started.
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KiB, systemClock } from '@tidemark/engine';
import { describeBlockNode, MemoryNode } from '@tidemark/engine/testing';
import { NbdServer } from '@tidemark/nbd';
import { expect, onTestFinished, test } from 'vitest';
import { BlockExport } from './block-export.ts';
import { NbdDriver } from './nbd-driver.ts';
import { ReconnectingNode } from './reconnecting-node.ts';

let sockets = 0;

function makeServer(node: MemoryNode) {
  const path = join(tmpdir(), `tidemark-reconnect-${process.pid}-${sockets++}.sock`);
  let server: NbdServer | undefined;
  return {
    uri: `nbd+unix:///disk?socket=${path}`,
    async start() {
      server = new NbdServer();
      server.addExport(new BlockExport({ name: 'disk', listed: true, node }));
      await server.listen({ path });
    },
    async stop() {
      await server?.close();
      server = undefined;
      await rm(path, { force: true });
    },
  };
}

async function openOn(uri: string, reconnectDelayMs: number): Promise<ReconnectingNode> {
  const connect = (signal: AbortSignal) => NbdDriver.open(uri, { readOnly: false, signal });
  const first = await connect(AbortSignal.timeout(5000));
  return ReconnectingNode.of(first, { connect, reconnectDelayMs, clock: systemClock });
}

async function start(reconnectDelayMs: number) {
  const disk = new MemoryNode({ sizeBytes: 256 * KiB });
  const server = makeServer(disk);
  await server.start();
  const node = await openOn(server.uri, reconnectDelayMs);
  onTestFinished(async () => {
    await node.close();
    await server.stop();
  });
  return { disk, server, node };
}

let conforming: ReturnType<typeof makeServer>;
describeBlockNode('nbd with reconnect', {
  create: async sizeBytes => {
    conforming = makeServer(new MemoryNode({ sizeBytes }));
    await conforming.start();
    return openOn(conforming.uri, 1000);
  },
  cleanUp: () => conforming.stop(),
});

test('requests wait for a server that comes back in time', async () => {
  const { server, node, disk } = await start(10_000);
  await server.stop();
  const writes = [0, 64, 128].map(at => node.write(at * KiB, Buffer.alloc(64 * KiB, at + 1)));
  await systemClock.sleep(200);
  await server.start();
  await Promise.all(writes);
  const all = Buffer.alloc(192 * KiB);
  await disk.read(0, all);
  expect([all[0], all[64 * KiB], all[128 * KiB]]).toEqual([1, 65, 129]);
});

test('requests fail once the time allowed is over, and work again when the server is back', async () => {
  const { server, node } = await start(300);
  await server.stop();
  await expect(node.read(0, Buffer.alloc(512))).rejects.toMatchObject({ context: { errno: 'EIO' } });
  await server.start();
  const deadline = performance.now() + 5000;
  while (performance.now() < deadline) {
    const failed = await node.read(0, Buffer.alloc(512)).catch((error: unknown) => error);
    if (failed === undefined) return;
    await systemClock.sleep(20);
  }
  throw new Error('the connection did not come back');
});

test('a cancel ends what waits at once', async () => {
  const { server, node } = await start(60_000);
  await server.stop();
  const waiting = node.read(0, Buffer.alloc(512));
  waiting.catch(() => undefined);
  await systemClock.sleep(50);
  const before = performance.now();
  node.cancelInFlight();
  await expect(waiting).rejects.toMatchObject({ context: { errno: 'ECANCELED' } });
  expect(performance.now() - before).toBeLessThan(1000);
});
