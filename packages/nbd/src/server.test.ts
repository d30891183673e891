// Goal: exports come and go under live clients, and connections stay within their bound.
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { MemoryExport } from '../test/memory-export.ts';
import { RawClient } from '../test/raw-client.ts';
import { type NbdAddress, NbdClient, NbdServer } from './index.ts';
import { COMMAND } from './protocol.ts';

let server: NbdServer;
let address: NbdAddress;
let disk: MemoryExport;
let events: string[];

beforeEach(async () => {
  events = [];
  server = new NbdServer({
    connectionsMax: 3,
    onConnect: connection => events.push(`connect ${connection.exportName}`),
    onDisconnect: connection => events.push(`disconnect ${connection.exportName}`),
    onProtocolError: (_, reason) => events.push(reason),
  });
  disk = new MemoryExport();
  server.addExport(disk);
  address = await server.listen({ host: '127.0.0.1', port: 0 });
});
afterEach(() => server.close());

it('refuses a safe removal while a client is there, and removes afterwards', async () => {
  const client = await RawClient.go(address, 'disk', false);
  await expect(server.removeExport('disk', { mode: 'safe' })).rejects.toMatchObject({ kind: 'busy' });
  client.send(COMMAND.READ, 0, 1);
  expect(await client.simple()).toBe(0);
  client.send(COMMAND.DISC, 0, 0);
  await client.ended;
  await expect.poll(() => server.connections()).toEqual([]);
  await server.removeExport('disk', { mode: 'safe' });
  await expect(server.removeExport('disk', { mode: 'safe' })).rejects.toMatchObject({ kind: 'not-found' });
  expect(events).toEqual(['connect disk', 'disconnect disk']);
});

it('drops clients in a hard removal and waits for their requests', async () => {
  let openGate = (): void => undefined;
  disk.gate = new Promise(resolve => {
    openGate = resolve;
  });
  const client = await RawClient.go(address, 'disk', false);
  client.send(COMMAND.WRITE, 0, 3, 0, 7n, Buffer.from('abc'));
  await expect.poll(() => disk.calls).toEqual(['write 0 3']);
  let removed = false;
  const removal = server.removeExport('disk', { mode: 'hard' }).then(() => {
    removed = true;
  });
  await client.ended;
  await new Promise(resolve => setTimeout(resolve, 30));
  expect(removed).toBe(false);
  openGate();
  await removal;
  expect(disk.bytes.toString('latin1', 0, 3)).toBe('abc');
  await expect(
    NbdClient.connect({ ...(address as { host: string; port: number }), exportName: 'disk' }),
  ).rejects.toMatchObject({ reply: 'ERR_UNKNOWN' });
});

it('closes connections beyond its bound and takes new ones when there is room', async () => {
  const clients = [];
  for (let i = 0; i < 3; i++) clients.push(await RawClient.go(address, 'disk', false));
  await expect(RawClient.open(address)).rejects.toThrow();
  expect(events).toContain('more than 3 connections');
  clients[0]!.destroy();
  await expect.poll(() => server.connections().length).toBe(2);
  await RawClient.go(address, 'disk', false);
});

it('lets connections beyond its bound wait for room, where it is told to', async () => {
  const patient = new NbdServer({ connectionsMax: 1, whenFull: 'wait' });
  patient.addExport(disk);
  const where = await patient.listen({ host: '127.0.0.1', port: 0 });
  const first = await RawClient.go(where, 'disk', false);
  let served = false;
  const second = RawClient.go(where, 'disk', false).then(client => {
    served = true;
    return client;
  });
  await new Promise(resolve => setTimeout(resolve, 50));
  expect(served).toBe(false);
  first.destroy();
  (await second).send(COMMAND.READ, 0, 1);
  expect(await (await second).simple()).toBe(0);
  await patient.close();
});

it('lets go of those that wait when it is closed', async () => {
  const patient = new NbdServer({ connectionsMax: 1, whenFull: 'wait' });
  patient.addExport(disk);
  const where = await patient.listen({ host: '127.0.0.1', port: 0 });
  await RawClient.go(where, 'disk', false);
  const second = RawClient.go(where, 'disk', false);
  await new Promise(resolve => setTimeout(resolve, 50));
  await Promise.all([expect(second).rejects.toThrow(), patient.close()]);
});

it('shows a write of one connection to the other', async () => {
  const [one, two] = [await RawClient.go(address, 'disk', false), await RawClient.go(address, 'disk', false)];
  one.send(COMMAND.WRITE, 9, 2, 0, 7n, Buffer.from('hi'));
  expect(await one.simple()).toBe(0);
  two.send(COMMAND.READ, 9, 2);
  expect(await two.simple()).toBe(0);
  expect((await two.read(2)).toString()).toBe('hi');
});

it('listens on a unix socket too', async () => {
  const path = join(tmpdir(), `nbd-${process.pid}.sock`);
  await server.listen({ path });
  const client = await NbdClient.connect({ path, exportName: 'disk' });
  await client.write(0, Buffer.from('unix'));
  expect(disk.bytes.toString('latin1', 0, 4)).toBe('unix');
  await client.disconnect();
});

it('refuses exports that contradict themselves or exist', () => {
  expect(() => server.addExport(disk)).toThrow('exists already');
  expect(() => server.addExport(new MemoryExport({ name: 'a', minBlockBytes: 3 }))).toThrow(
    'minimum block size',
  );
  expect(() => server.addExport(new MemoryExport({ name: 'a', minBlockBytes: 512, sizeBytes: 100 }))).toThrow(
    'size',
  );
});

it('closes clients and can be closed twice', async () => {
  const client = await RawClient.go(address, 'disk', false);
  await Promise.all([server.close(), server.close()]);
  await client.ended;
  await expect(server.listen({ port: 0 })).rejects.toMatchObject({ kind: 'closed' });
});
