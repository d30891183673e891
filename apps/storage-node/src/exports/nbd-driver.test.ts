// Goal: a disk on another storage node is a block node like any other, and its failures say what and
// where. Method: the engine's conformance suite over a real connection, and a server that goes away.
import { type AddressInfo, createServer } from 'node:net';
import { inspect } from 'node:util';
import { EngineError, KiB, MiB } from '@tidemark/engine';
import { describeBlockNode, FaultyNode, MemoryNode } from '@tidemark/engine/testing';
import { expect, onTestFinished, test } from 'vitest';
import { unguessableName } from '../repository/partial-file.ts';
import type { BlockExportOptions } from './block-export.ts';
import { NbdDriver } from './nbd-driver.ts';
import { NbdExports } from './nbd-exports.ts';

const started: NbdExports[] = [];

async function serve(options: Partial<BlockExportOptions> & Pick<BlockExportOptions, 'node'>) {
  const exports = new NbdExports({ listen: { host: '127.0.0.1', port: 0 } });
  await exports.start();
  started.push(exports);
  return { exports, uri: exports.add({ name: 'a disk/ü', listed: false, ...options }) };
}

function placeIn(uri: string): string {
  return new URL(uri).host;
}

async function stopAll(): Promise<void> {
  for (const exports of started.splice(0)) await exports.close();
}

describeBlockNode('nbd', {
  create: async sizeBytes => {
    const { uri } = await serve({ node: new MemoryNode({ sizeBytes, requestAlignmentBytes: 512 }) });
    return NbdDriver.open(uri, { readOnly: false });
  },
  cleanUp: stopAll,
});

async function openOn(options: Partial<BlockExportOptions> & Pick<BlockExportOptions, 'node'>) {
  onTestFinished(stopAll);
  const { exports, uri } = await serve(options);
  const driver = await NbdDriver.open(uri, { readOnly: options.node.readOnly });
  return { exports, uri, driver };
}

test('extents come as the far side has them', async () => {
  const node = new MemoryNode({ sizeBytes: 1 * MiB });
  await node.write(64 * KiB, Buffer.alloc(64 * KiB, 1));
  const { driver } = await openOn({ node });
  expect(await driver.extents(0, MiB)).toEqual([
    { offset: 0, length: 64 * KiB, data: false, zero: true, depth: 0 },
    { offset: 64 * KiB, length: 64 * KiB, data: true, zero: false, depth: 1 },
    { offset: 128 * KiB, length: MiB - 128 * KiB, data: false, zero: true, depth: 0 },
  ]);
  expect(await driver.extents(96 * KiB, 8 * KiB)).toEqual([
    { offset: 96 * KiB, length: 8 * KiB, data: true, zero: false, depth: 1 },
  ]);
  await driver.close();
});

test('an errno of the server arrives as kind io with that errno', async () => {
  const rules = [{ event: 'write', errno: 'ENOSPC' } as const];
  const { driver, uri } = await openOn({
    node: new FaultyNode(new MemoryNode({ sizeBytes: MiB }), { rules }),
  });
  await expect(driver.write(0, Buffer.alloc(512))).rejects.toMatchObject({
    kind: 'io',
    context: { errno: 'ENOSPC', path: placeIn(uri), op: 'write', offset: 0, length: 512 },
  });
  await driver.close();
});

test('a lost connection is ECONNRESET and names the server', async () => {
  const { driver, uri, exports } = await openOn({ node: new MemoryNode({ sizeBytes: MiB }) });
  await exports.close();
  const failure = { kind: 'io', context: { errno: 'ECONNRESET', path: placeIn(uri) } };
  await expect(driver.read(0, Buffer.alloc(512))).rejects.toMatchObject(failure);
  await expect(driver.flush()).rejects.toMatchObject(failure);
  await driver.close();
});

test('requests that hang are ended at once', async () => {
  const gate = Promise.withResolvers<void>();
  const node = new FaultyNode(new MemoryNode({ sizeBytes: MiB }), {
    delay: event => (event === 'read' ? gate.promise : undefined),
  });
  const { driver } = await openOn({ node });
  const hanging = driver.read(0, Buffer.alloc(512));
  const ended = expect(hanging).rejects.toMatchObject({ kind: 'io', context: { errno: 'ECONNRESET' } });
  driver.cancelInFlight();
  await ended;
  gate.resolve();
  await driver.close();
});

test('a signal ends the connecting, not the connection', async () => {
  onTestFinished(stopAll);
  const { uri } = await serve({ node: new MemoryNode({ sizeBytes: MiB }) });
  const controller = new AbortController();
  const driver = await NbdDriver.open(uri, { readOnly: true, signal: controller.signal });
  controller.abort();
  await driver.read(0, Buffer.alloc(512));
  await driver.close();
  await expect(NbdDriver.open(uri, { readOnly: true, signal: controller.signal })).rejects.toMatchObject({
    kind: 'io',
  });
  // A server that takes connections and says nothing.
  const mute = createServer();
  onTestFinished(() => void mute.close());
  await new Promise<void>(resolve => mute.listen(0, '127.0.0.1', resolve));
  const { port } = mute.address() as AddressInfo;
  const hanging = NbdDriver.open(`nbd://127.0.0.1:${port}/x`, {
    readOnly: true,
    signal: AbortSignal.timeout(50),
  });
  await expect(hanging).rejects.toMatchObject({ kind: 'io', context: { op: 'open' } });
});

test('nobody there, no such export, read-only: each says so at opening', async () => {
  onTestFinished(stopAll);
  const { exports, uri } = await serve({ node: new MemoryNode({ sizeBytes: MiB }), readOnly: true });
  await expect(NbdDriver.open(uri, { readOnly: false })).rejects.toThrow(/read-only/);
  const reader = await NbdDriver.open(uri, { readOnly: true });
  await reader.close();
  await expect(NbdDriver.open(exports.uri('other'), { readOnly: true })).rejects.toMatchObject({
    kind: 'not-found',
  });
  await exports.close();
  await expect(NbdDriver.open(uri, { readOnly: true })).rejects.toMatchObject({
    kind: 'io',
    context: { errno: 'ECONNREFUSED', path: placeIn(uri) },
  });
});

test('no failure tells the name of an export, which lets whoever has it in', async () => {
  onTestFinished(stopAll);
  const name = unguessableName();
  const rules = [{ event: 'write', errno: 'EIO' } as const];
  const node = new FaultyNode(new MemoryNode({ sizeBytes: MiB }), { rules });
  const { exports, uri } = await serve({ node, name });
  const sealed = await serve({ node, name, readOnly: true });
  const driver = await NbdDriver.open(uri, { readOnly: false });
  const open = (address: string) => () => NbdDriver.open(address, { readOnly: false });
  const read = () => driver.read(0, Buffer.alloc(512));
  const mute = createServer(socket => socket.end());
  onTestFinished(() => void mute.close());
  await new Promise<void>(resolve => mute.listen(0, '127.0.0.1', resolve));
  const failures: [string, () => Promise<unknown>][] = [
    ['write', () => driver.write(0, Buffer.alloc(512))],
    ['read-only', open(sealed.uri)],
    ['not an address', open(`http://127.0.0.1/${name}`)],
    ['no server of NBD', open(`nbd://127.0.0.1:${(mute.address() as AddressInfo).port}/${name}`)],
    ['gone', async () => exports.remove(name, { mode: 'hard' }).then(open(uri))],
    ['lost', read],
    ['nobody there', async () => exports.close().then(open(uri))],
  ];
  for (const [what, fail] of failures) {
    const error: unknown = await fail().catch((thrown: unknown) => thrown);
    expect(error, what).toBeInstanceOf(EngineError);
    const told = inspect(error, { depth: 10 });
    expect(told, what).not.toContain(name);
    if (what !== 'not an address') expect(told, what).toContain('127.0.0.1:');
  }
  await driver.close();
});
