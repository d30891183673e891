// Goal: each command reaches the export as asked, each bad one gets its errno, and the connection stays
// usable. Method: raw requests against a live server over a memory export, on the spot and later.
import { afterEach, describe, expect, it } from 'vitest';
import { MemoryExport, type MemoryExportOptions } from '../test/memory-export.ts';
import { RawClient, request } from '../test/raw-client.ts';
import { NbdError, NbdServer, type NbdServerOptions } from './index.ts';
import { CHUNK, COMMAND, COMMAND_FLAG, ERRNO } from './protocol.ts';

let server: NbdServer;
afterEach(() => server.close());

async function start(
  options: MemoryExportOptions = {},
  serverOptions: NbdServerOptions = {},
): Promise<MemoryExport> {
  server = new NbdServer(serverOptions);
  const disk = new MemoryExport(options);
  server.addExport(disk);
  await server.listen({ host: '127.0.0.1', port: 0 });
  return disk;
}
const open = (structured = false, contexts: string[] = []): Promise<RawClient> =>
  RawClient.go(server.address()!, 'disk', structured, contexts);

describe.each([{ later: false }, { later: true }])('an export with later=$later', ({ later }) => {
  it('reads and writes, small and large, in one piece and in many', async () => {
    const disk = await start({ later, sizeBytes: 8 << 20 });
    const client = await open();
    for (const length of [1, 4096, 65_536, 300_000, 3 << 20]) {
      const data = Buffer.alloc(length, length % 251);
      client.send(COMMAND.WRITE, 5, length, 0, 7n, data);
      expect(await client.simple()).toBe(0);
      expect(disk.bytes.subarray(5, 5 + length).equals(data)).toBe(true);
      client.send(COMMAND.READ, 5, length);
      expect(await client.simple()).toBe(0);
      expect((await client.read(length)).equals(data)).toBe(true);
    }
  });

  it('takes a stream of requests cut at every place', async () => {
    const disk = await start({ later });
    const client = await open();
    const parts: Buffer[] = [];
    for (let i = 0; i < 40; i++)
      parts.push(request(COMMAND.WRITE, i * 100, 100, 0, BigInt(i)), Buffer.alloc(100, i + 1));
    const stream = Buffer.concat(parts);
    for (let at = 0; at < stream.byteLength; at += 61) {
      client.socket.write(stream.subarray(at, at + 61));
      if (at % 5 === 0) await new Promise(resolve => setImmediate(resolve));
    }
    for (let i = 0; i < 40; i++) expect(await client.simple()).toBe(0);
    for (let i = 0; i < 40; i++) expect(disk.bytes[i * 100 + 99]).toBe(i + 1);
  });

  it('answers reads in one structured chunk', async () => {
    const disk = await start({ later });
    disk.bytes.fill(9, 1000, 2000);
    const client = await open(true);
    client.send(COMMAND.READ, 1000, 1000, COMMAND_FLAG.DF, 0xfedcba9876543210n);
    const chunk = await client.chunk();
    expect(chunk).toMatchObject({ done: true, type: CHUNK.OFFSET_DATA, cookie: 0xfedcba9876543210n });
    expect(chunk.data.readBigUInt64BE(0)).toBe(1000n);
    expect(chunk.data.subarray(8).equals(disk.bytes.subarray(1000, 2000))).toBe(true);
    client.send(COMMAND.READ, 0, 0);
    expect(await client.chunk()).toMatchObject({ done: true, type: CHUNK.NONE });
  });

  it('passes on flush, trim, cache, zeroes and their flags', async () => {
    const disk = await start({ later });
    const client = await open();
    client.send(COMMAND.FLUSH, 0, 0);
    client.send(COMMAND.TRIM, 512, 1024, COMMAND_FLAG.FUA);
    client.send(COMMAND.CACHE, 0, 100);
    client.send(COMMAND.WRITE_ZEROES, 0, 10, COMMAND_FLAG.NO_HOLE);
    client.send(COMMAND.WRITE_ZEROES, 0, 20);
    client.send(COMMAND.WRITE, 0, 3, COMMAND_FLAG.FUA, 7n, Buffer.from('abc'));
    for (let i = 0; i < 6; i++) expect(await client.simple()).toBe(0);
    expect(disk.calls).toEqual([
      'flush',
      'trim 512 1024 fua',
      'cache 0 100',
      'zero 0 10',
      'zero 0 20 unmap',
      'write 0 3 fua',
    ]);
  });

  it('reports the status of several contexts in one reply', async () => {
    const disk = await start({ later });
    await disk.write(4096, Buffer.alloc(8192, 1), false);
    const client = await open(true, ['qemu:dirty-bitmap:monday', 'base:allocation']);
    client.send(COMMAND.BLOCK_STATUS, 0, 65_536);
    const first = await client.chunk();
    const second = await client.chunk();
    expect([first.done, second.done]).toEqual([false, true]);
    expect(first.data.toString('hex')).toBe(
      ['00000001', '0000100000000003', '0000200000000000', '0000d00000000003'].join(''),
    );
    expect(second.data.toString('hex')).toBe(
      ['00000002', '0000100000000000', '0000200000000001', '0000d00000000000'].join(''),
    );
    client.send(COMMAND.BLOCK_STATUS, 4096, 65_536, COMMAND_FLAG.REQ_ONE);
    expect((await client.chunk()).data.toString('hex')).toBe('000000010000200000000000');
    expect((await client.chunk()).data.byteLength).toBe(12);
  });

  it('turns errors of the export into errnos, with the text of an NbdError only', async () => {
    const disk = await start(
      { later },
      { toErrno: error => (error instanceof RangeError ? 'ENOSPC' : 'EIO') },
    );
    const client = await open(true);
    for (const [fault, errno, text] of [
      [new NbdError('EPERM', 'frozen'), ERRNO.EPERM, 'frozen'],
      [new RangeError('/secret/path'), ERRNO.ENOSPC, 'no space left on the export'],
      [new Error('x'), ERRNO.EIO, 'input/output error'],
    ] as const) {
      disk.fault = fault;
      for (const length of [512, 200_000]) {
        client.send(COMMAND.READ, 0, length);
        const chunk = await client.chunk();
        expect(chunk).toMatchObject({ done: true, type: CHUNK.ERROR });
        expect(chunk.data.readUInt32BE(0)).toBe(errno);
        expect(chunk.data.toString('utf8', 6)).toBe(text);
      }
    }
    disk.fault = undefined;
    client.send(COMMAND.READ, 0, 4);
    expect((await client.chunk()).type).toBe(CHUNK.OFFSET_DATA);
  });
});

describe('refused requests', () => {
  const end = 1 << 20;
  const cases: [string, MemoryExportOptions, number, number | bigint, number, number, number][] = [
    ['a read past the end', {}, COMMAND.READ, end - 1, 2, 0, ERRNO.EINVAL],
    ['a read at 2^63', {}, COMMAND.READ, 2n ** 63n, 1, 0, ERRNO.EINVAL],
    ['a write past the end', {}, COMMAND.WRITE, end - 1, 2, 0, ERRNO.ENOSPC],
    ['zeroes past the end', {}, COMMAND.WRITE_ZEROES, end, 1, 0, ERRNO.ENOSPC],
    ['a trim past the end', {}, COMMAND.TRIM, end, 1, 0, ERRNO.EINVAL],
    ['a cache past the end', {}, COMMAND.CACHE, end, 1, 0, ERRNO.EINVAL],
    ['a read of 33 MiB', { sizeBytes: 64 << 20 }, COMMAND.READ, 0, 33 << 20, 0, ERRNO.EINVAL],
    [
      'a write longer than the export takes',
      { maxBlockBytes: 65_536 },
      COMMAND.WRITE,
      0,
      65_537,
      0,
      ERRNO.EINVAL,
    ],
    ['an unaligned read', { minBlockBytes: 512 }, COMMAND.READ, 1, 512, 0, ERRNO.EINVAL],
    ['an unaligned write', { minBlockBytes: 512 }, COMMAND.WRITE, 0, 100, 0, ERRNO.EINVAL],
    ['a write to a read-only export', { readOnly: true }, COMMAND.WRITE, 0, 100, 0, ERRNO.EPERM],
    ['a trim of a read-only export', { readOnly: true }, COMMAND.TRIM, 0, 100, 0, ERRNO.EPERM],
    ['zeroes on a read-only export', { readOnly: true }, COMMAND.WRITE_ZEROES, 0, 100, 0, ERRNO.EPERM],
    [
      'a fast zero that would be slow',
      {},
      COMMAND.WRITE_ZEROES,
      0,
      512,
      COMMAND_FLAG.FAST_ZERO,
      ERRNO.ENOTSUP,
    ],
    ['an unknown command', {}, 99, 0, 0, 0, ERRNO.EINVAL],
    ['unknown flags on a write', {}, COMMAND.WRITE, 0, 100, 0x8000, ERRNO.EINVAL],
    ['DF without structured replies', {}, COMMAND.READ, 0, 1, COMMAND_FLAG.DF, ERRNO.EINVAL],
    ['status without a context', {}, COMMAND.BLOCK_STATUS, 0, 512, 0, ERRNO.EINVAL],
  ];
  it.each(cases)('%s', async (_, options, command, offset, length, flags, errno) => {
    const disk = await start(options);
    const client = await open();
    client.send(
      command,
      offset,
      length,
      flags,
      7n,
      command === COMMAND.WRITE ? Buffer.alloc(length) : undefined,
    );
    expect(await client.simple()).toBe(errno);
    expect(disk.calls).toEqual([]);
    client.send(COMMAND.READ, 0, 512);
    expect(await client.simple()).toBe(0);
  });

  it('lets a fast export zero fast', async () => {
    await start({ fastZero: true });
    const client = await open();
    client.send(COMMAND.WRITE_ZEROES, 0, 512, COMMAND_FLAG.FAST_ZERO);
    expect(await client.simple()).toBe(0);
  });

  it('closes the connection when a request has no magic', async () => {
    const violations: string[] = [];
    await start({}, { onProtocolError: (_, reason) => violations.push(reason) });
    const client = await open();
    client.socket.write(Buffer.alloc(28, 1));
    await client.ended;
    expect(violations).toEqual(['request without its magic']);
  });
});

describe('bounds', () => {
  it('holds requests back beyond requestsMax, and goes on when one ends', async () => {
    const disk = await start({}, { requestsMax: 4 });
    let openGate = (): void => undefined;
    disk.gate = new Promise(resolve => {
      openGate = resolve;
    });
    const client = await open();
    for (let i = 0; i < 50; i++) client.send(COMMAND.WRITE, i, 1, 0, BigInt(i), Buffer.from([i + 1]));
    await expect.poll(() => disk.calls.length).toBe(4);
    await new Promise(resolve => setTimeout(resolve, 50));
    expect(disk.calls).toHaveLength(4);
    disk.gate = undefined;
    openGate();
    for (let i = 0; i < 50; i++) expect(await client.simple()).toBe(0);
    expect([...disk.bytes.subarray(0, 50)]).toEqual(Array.from({ length: 50 }, (_, i) => i + 1));
  });

  it('stops reading for a client that does not take its replies, and serves it when it does', async () => {
    const disk = await start({ sizeBytes: 1 << 20 });
    const client = await open();
    client.socket.pause();
    const total = 300;
    for (let i = 0; i < total; i++) client.send(COMMAND.READ, 0, 1 << 18);
    await new Promise(resolve => setTimeout(resolve, 200));
    expect(disk.calls.length).toBeLessThan(100);
    client.socket.resume();
    for (let i = 0; i < total; i++) {
      expect(await client.simple()).toBe(0);
      await client.read(1 << 18);
    }
  });

  it('waits for the status of every context, though one of them fails at once', async () => {
    const disk = await start();
    let openGate = (): void => undefined;
    const gate = new Promise<void>(resolve => {
      openGate = resolve;
    });
    let asked = 0;
    disk.blockStatus = context => {
      asked++;
      if (context !== 'base:allocation') throw new NbdError('EINVAL', 'gone');
      return gate.then(() => Promise.reject(new Error('late')));
    };
    const client = await open(true, ['base:allocation', 'qemu:dirty-bitmap:monday']);
    client.send(COMMAND.BLOCK_STATUS, 0, 4096);
    await expect.poll(() => asked).toBe(2);
    let removed = false;
    const removal = server.removeExport('disk', { mode: 'hard' }).then(() => {
      removed = true;
    });
    await new Promise(resolve => setTimeout(resolve, 30));
    expect(removed).toBe(false);
    openGate();
    await removal;
  });

  it('answers what is in flight before it follows DISC', async () => {
    const disk = await start({ later: true });
    const client = await open();
    client.send(COMMAND.WRITE, 0, 3, 0, 7n, Buffer.from('abc'));
    client.send(COMMAND.DISC, 0, 0);
    expect(await client.simple()).toBe(0);
    await client.ended;
    expect(disk.bytes.toString('latin1', 0, 3)).toBe('abc');
  });
});
