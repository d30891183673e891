// Goal: no bytes a client sends can stop the server or reach another client. Method: seeded garbage and
// damaged sessions against a live server; afterwards a good client must be served. A failure names its seed.
import { connect } from 'node:net';
import { expect, it } from 'vitest';
import { type NbdAddress, NbdClient, NbdServer } from '../../src/index.ts';
import * as codec from '../../src/option-codec.ts';
import { MemoryExport } from '../memory-export.ts';
import { request } from '../raw-client.ts';

/** mulberry32: small, seeded, good enough to shake a parser. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed;
  return below => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

function session(random: (below: number) => number): Buffer {
  const garbage = (max: number): Buffer =>
    Buffer.from(Array.from({ length: random(max) }, () => random(256)));
  const name = ['disk', 'later', 'x', ''][random(4)]!;
  const parts: Buffer[] = [Buffer.from([0, 0, 0, 3])];
  for (let i = random(6); i > 0; i--) {
    const data = [
      garbage(80),
      codec.encodeInfoRequest({ exportName: name, types: [random(5)] }),
      codec.encodeContextRequest({ exportName: name, queries: ['base:allocation', 'qemu:'] }),
      Buffer.alloc(0),
      Buffer.alloc(random(80_000)),
    ][random(5)]!;
    parts.push(codec.encodeOption(random(13), data));
  }
  parts.push(codec.encodeOption(8, Buffer.alloc(0)));
  parts.push(
    codec.encodeOption(10, codec.encodeContextRequest({ exportName: name, queries: ['base:allocation'] })),
  );
  parts.push(codec.encodeOption(7, codec.encodeInfoRequest({ exportName: name, types: [3] })));
  for (let i = random(20); i > 0; i--) {
    const command = random(10) === 0 ? random(65_536) : [0, 1, 3, 4, 5, 6, 7][random(7)]!;
    const length = [random(10), random(70_000), random(2 ** 21), random(2 ** 31) * 2][random(4)]!;
    const offset = random(4) === 0 ? BigInt(random(2 ** 31)) ** 2n : random(1 << 20);
    parts.push(request(command, offset, length, random(3) === 0 ? random(65_536) : random(32)));
    if (command === 1 && random(5) > 0) parts.push(Buffer.alloc(Math.min(length, 300_000), 1));
  }
  const bytes = Buffer.concat(parts);
  for (let i = random(4); i > 0; i--) bytes[random(bytes.byteLength)] = random(256);
  return random(3) === 0 ? bytes.subarray(0, random(bytes.byteLength)) : bytes;
}

/** Sends a session in odd pieces; ends when the server closes or nothing more comes. */
function attack(address: NbdAddress, bytes: Buffer, random: (below: number) => number): Promise<void> {
  return new Promise(resolve => {
    const socket = connect(address);
    socket.on('error', () => undefined);
    socket.on('data', () => undefined);
    socket.on('close', () => resolve());
    for (let at = 0; at < bytes.byteLength; ) {
      const length = 1 + random(60_000);
      socket.write(bytes.subarray(at, at + length));
      at += length;
    }
    setTimeout(() => (random(2) === 0 ? socket.end() : socket.destroy()), 20 + random(10));
    setTimeout(() => socket.destroy(), 60);
  });
}

it('survives garbage and damaged sessions', async () => {
  const server = new NbdServer({ handshakeTimeoutMs: 1000 });
  server.addExport(new MemoryExport());
  server.addExport(new MemoryExport({ name: 'later', later: true }));
  const good = new MemoryExport({ name: 'good' });
  server.addExport(good);
  const address = (await server.listen({ host: '127.0.0.1', port: 0 })) as { host: string; port: number };
  const client = await NbdClient.connect({ ...address, exportName: 'good' });
  try {
    for (let round = 0; round < 25; round++) {
      const seeds = Array.from({ length: 16 }, (_, i) => round * 16 + i + 1);
      await Promise.all(
        seeds.map(seed => {
          const random = randomFrom(seed);
          return attack(address, session(random), random);
        }),
      );
      const data = Buffer.alloc(5000, round + 1);
      await client.write(round, data);
      const back = Buffer.alloc(5000);
      await client.read(round, back);
      expect(back.equals(data), `after seeds ${seeds[0]} to ${seeds[15]}`).toBe(true);
    }
    await expect.poll(() => server.connections().length).toBe(1);
  } finally {
    client.destroy();
    await server.close();
  }
});
