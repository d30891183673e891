// Goal: the client does what it is told against a good server, and survives a bad one with a clear error.
import { createServer, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { MemoryExport, type MemoryExportOptions } from '../test/memory-export.ts';
import { NbdClient, type NbdConnectOptions, NbdServer } from './index.ts';
import { encodeInfo, encodeOptionReply, encodeSizeAndFlags } from './option-codec.ts';
import { GREETING_MAGIC, OPTION_MAGIC } from './protocol.ts';

let server: NbdServer | undefined;
let fake: Server | undefined;
const sockets: Socket[] = [];
afterEach(async () => {
  await server?.close();
  for (const socket of sockets.splice(0)) socket.destroy();
  fake?.close();
});

async function connect(disk: MemoryExport, options: NbdConnectOptions = {}): Promise<NbdClient> {
  server = new NbdServer();
  server.addExport(disk);
  const { host, port } = (await server.listen({ host: '127.0.0.1', port: 0 })) as {
    host: string;
    port: number;
  };
  return NbdClient.connect({ uri: `nbd://${host}:${port}/${disk.name}` }, options);
}

describe.each([{ later: false }, { later: true }] as MemoryExportOptions[])(
  'with a good server ($later)',
  base => {
    it('knows the export', async () => {
      const client = await connect(new MemoryExport({ ...base, readOnly: true }), {
        contexts: ['base:allocation', 'x:y'],
      });
      expect(client).toMatchObject({ sizeBytes: 1 << 20, readOnly: true, multiConn: true, canFlush: true });
      expect(client).toMatchObject({
        canTrim: false,
        preferredBlockBytes: 4096,
        contexts: ['base:allocation'],
      });
      await expect(client.write(0, Buffer.alloc(1))).rejects.toMatchObject({ errno: 'EPERM' });
      await expect(client.read(1 << 20, Buffer.alloc(1))).rejects.toMatchObject({ errno: 'EINVAL' });
      await client.read((1 << 20) - 1, Buffer.alloc(1));
    });

    it('splits what is longer than the server takes', async () => {
      const disk = new MemoryExport({ ...base, maxBlockBytes: 65_536 });
      const client = await connect(disk);
      const data = Buffer.alloc(200_000, 5);
      await client.write(100, data);
      const back = Buffer.alloc(200_000);
      await client.read(100, back);
      expect(back.equals(data)).toBe(true);
      expect(disk.calls.filter(call => call.startsWith('write'))).toHaveLength(4);
    });

    it('keeps hundreds of requests apart', async () => {
      const disk = new MemoryExport(base);
      const client = await connect(disk, { requestsMax: 16 });
      await Promise.all(
        Array.from({ length: 500 }, (_, i) => client.write(i * 1000, Buffer.alloc(1000, i % 256))),
      );
      const buffers = Array.from({ length: 500 }, () => Buffer.alloc(1000));
      await Promise.all(buffers.map((buffer, i) => client.read(i * 1000, buffer)));
      for (const [i, buffer] of buffers.entries())
        expect(buffer.equals(Buffer.alloc(1000, i % 256))).toBe(true);
      await client.disconnect();
      expect(await client.closed).toBeUndefined();
    });

    it('flushes, trims, zeroes, caches and asks for status', async () => {
      const disk = new MemoryExport(base);
      const client = await connect(disk, { contexts: ['base:allocation', 'qemu:dirty-bitmap:monday'] });
      await client.write(8192, Buffer.alloc(4096, 1), { fua: true });
      await client.writeZeroes(0, 4096, { mayUnmap: false });
      await client.trim(0, 512);
      await client.cache(0, 512);
      await client.flush();
      await expect(client.writeZeroes(0, 1, { fast: true })).rejects.toMatchObject({ errno: 'ENOTSUP' });
      expect(disk.calls).toEqual([
        'write 8192 4096 fua',
        'zero 0 4096',
        'trim 0 512',
        'cache 0 512',
        'flush',
      ]);
      expect(await client.blockStatus('qemu:dirty-bitmap:monday', 4096, 100_000)).toEqual([
        { offset: 4096, length: 4096, flags: 0 },
        { offset: 8192, length: 4096, flags: 1 },
        { offset: 12288, length: 91808, flags: 0 },
      ]);
      await expect(client.blockStatus('x:y', 0, 1)).rejects.toThrow('not negotiated');
    });
  },
);

it('rejects every pending request when the connection breaks', async () => {
  const disk = new MemoryExport();
  disk.gate = new Promise(() => undefined);
  const client = await connect(disk, { requestsMax: 2 });
  const results = Promise.allSettled([1, 2, 3, 4].map(i => client.read(i, Buffer.alloc(1))));
  await expect.poll(() => disk.calls.length).toBe(2);
  void server!.close();
  for (const result of await results) {
    expect(result).toMatchObject({
      status: 'rejected',
      reason: { message: expect.stringContaining('closed the connection') },
    });
  }
  expect(await client.closed).toBeInstanceOf(Error);
  await expect(client.flush()).rejects.toThrow('closed the connection');
  server = undefined;
});

it('can be aborted while connecting and later', async () => {
  const controller = new AbortController();
  const disk = new MemoryExport();
  const client = await connect(disk, { signal: controller.signal });
  controller.abort();
  expect((await client.closed)?.message).toContain('aborted');
});

describe('with a silent server', () => {
  const STALL_MS = 160;

  it('loses the connection when replies are owed for too long, and not before any are', async () => {
    const disk = new MemoryExport();
    const client = await connect(disk, { stallTimeoutMs: STALL_MS });
    await delay(2 * STALL_MS);
    await client.read(0, Buffer.alloc(512));
    const held = Promise.withResolvers<void>();
    disk.gate = held.promise;
    const startedAtMs = performance.now();
    await expect(client.read(0, Buffer.alloc(512))).rejects.toThrow(
      /owes 1 replies and has sent nothing for 160/,
    );
    expect(performance.now() - startedAtMs).toBeGreaterThanOrEqual(STALL_MS - 1);
    expect(await client.closed).toMatchObject({ name: 'NbdProtocolError' });
    held.resolve();
  });

  it('keeps the connection while anything is answered', async () => {
    const disk = new MemoryExport();
    const client = await connect(disk, { stallTimeoutMs: STALL_MS });
    const held = Promise.withResolvers<void>();
    disk.gate = held.promise;
    const slow = client.read(0, Buffer.alloc(512));
    await delay(STALL_MS / 4);
    disk.gate = undefined;
    const untilMs = performance.now() + 2 * STALL_MS;
    for (; performance.now() < untilMs; await delay(STALL_MS / 8)) await client.read(0, Buffer.alloc(512));
    held.resolve();
    await slow;
  });
});

describe('with a bad server', () => {
  const GREETING = Buffer.alloc(18);
  GREETING.writeBigUInt64BE(GREETING_MAGIC, 0);
  GREETING.writeBigUInt64BE(OPTION_MAGIC, 8);
  GREETING.writeUInt16BE(3, 16);
  const HANDSHAKE = Buffer.concat([
    encodeOptionReply(8, 1, Buffer.alloc(0)),
    encodeOptionReply(7, 3, encodeInfo(0, encodeSizeAndFlags(1 << 20, 1))),
    encodeOptionReply(7, 1, Buffer.alloc(0)),
  ]);

  it('leaves a server that does not close after the goodbye', async () => {
    const client = await connectTo(Buffer.concat([GREETING, HANDSHAKE]), []);
    await client.disconnect();
    expect(await client.closed).toBeUndefined();
  });

  /** Serves `greeting`, then each of `answers` in turn, one per arrival of data. */
  async function connectTo(greeting: Buffer, answers: Buffer[]): Promise<NbdClient> {
    fake = createServer({ allowHalfOpen: true }, socket => {
      sockets.push(socket);
      socket.on('error', () => undefined);
      socket.write(greeting);
      const left = [...answers];
      socket.on('data', () => socket.write(left.shift() ?? Buffer.alloc(0)));
    });
    await new Promise<void>(resolve => fake!.listen(0, '127.0.0.1', resolve));
    const port = (fake.address() as { port: number }).port;
    return NbdClient.connect({ host: '127.0.0.1', port, exportName: '' }, { connectTimeoutMs: 300 });
  }
  const chunk = (type: number, data: Buffer, flags = 1, cookieLow = 0): Buffer => {
    const head = Buffer.alloc(20);
    head.writeUInt32BE(0x668e33ef, 0);
    head.writeUInt16BE(flags, 4);
    head.writeUInt16BE(type, 6);
    head.writeUInt32BE(cookieLow, 12);
    head.writeUInt32BE(data.byteLength, 16);
    return Buffer.concat([head, data]);
  };
  const data = (offset: number, length: number): Buffer => {
    const head = Buffer.alloc(8);
    head.writeBigUInt64BE(BigInt(offset));
    return Buffer.concat([head, Buffer.alloc(length, 1)]);
  };

  it.each([
    ['another protocol', Buffer.from('HTTP/1.1 400 Bad Request\r\n')],
    ['silence', Buffer.alloc(0)],
    ['a reply to another option', Buffer.concat([GREETING, encodeOptionReply(3, 1, Buffer.alloc(0))])],
    ['an endless option reply', Buffer.concat([GREETING, encodeOptionReply(8, 3, Buffer.alloc(5 << 20))])],
    [
      'no size',
      Buffer.concat([
        GREETING,
        encodeOptionReply(8, 1, Buffer.alloc(0)),
        encodeOptionReply(7, 1, Buffer.alloc(0)),
      ]),
    ],
  ])('rejects connecting on %s', async (_, greeting) => {
    await expect(connectTo(greeting, [])).rejects.toMatchObject({ name: 'NbdProtocolError' });
  });

  it.each([
    ['garbage', Buffer.alloc(40, 0x42)],
    ['a reply nobody asked for', chunk(0, Buffer.alloc(0), 1, 99)],
    ['a simple reply to a read', Buffer.concat([Buffer.from('6744669800000000', 'hex'), Buffer.alloc(8)])],
    ['data past the range', chunk(1, data(100, 64))],
    ['data before the range', chunk(1, data(5, 64))],
    ['only a part', chunk(1, data(10, 32))],
    ['a part twice', Buffer.concat([chunk(1, data(10, 32), 0), chunk(1, data(10, 32))])],
    ['too large an error', chunk(0x8001, Buffer.alloc(5 << 20))],
    ['an unknown chunk', chunk(77, Buffer.alloc(4))],
    ['nothing at all', chunk(0, Buffer.alloc(0))],
  ])('rejects the read and closes on %s', async (_, reply) => {
    const client = await connectTo(Buffer.concat([GREETING]), [
      HANDSHAKE.subarray(0, 20),
      HANDSHAKE.subarray(20),
      reply,
    ]);
    await expect(client.read(10, Buffer.alloc(64))).rejects.toMatchObject({ name: 'NbdProtocolError' });
    expect(await client.closed).toBeInstanceOf(Error);
  });

  it('puts data and holes of any order together', async () => {
    const hole = Buffer.alloc(12);
    hole.writeBigUInt64BE(10n, 0);
    hole.writeUInt32BE(32, 8);
    const reply = Buffer.concat([chunk(1, data(42, 32), 0), chunk(2, hole)]);
    const client = await connectTo(GREETING, [HANDSHAKE.subarray(0, 20), HANDSHAKE.subarray(20), reply]);
    const buffer = Buffer.alloc(64, 9);
    await client.read(10, buffer);
    expect(buffer.equals(Buffer.concat([Buffer.alloc(32, 0), Buffer.alloc(32, 1)]))).toBe(true);
  });
});
