// Goal: every option gets the reply the protocol asks for, malformed ones an error, and the connection goes
// on afterwards. Method: raw bytes against a live server.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MemoryExport } from '../test/memory-export.ts';
import { RawClient } from '../test/raw-client.ts';
import { type NbdAddress, NbdServer } from './index.ts';
import * as codec from './option-codec.ts';
import { INFO, OPTION, REPLY } from './protocol.ts';

const EMPTY = Buffer.alloc(0);
let server: NbdServer;
let address: NbdAddress;
let violations: string[];

beforeEach(async () => {
  violations = [];
  server = new NbdServer({
    handshakeTimeoutMs: 300,
    onProtocolError: (_, reason) => violations.push(reason),
  });
  server.addExport(new MemoryExport({ description: 'a disk' }));
  server.addExport(new MemoryExport({ name: 'hidden', listed: false }));
  server.addExport(new MemoryExport({ name: 'sectors', minBlockBytes: 512 }));
  address = await server.listen({ host: '127.0.0.1', port: 0 });
});
afterEach(() => server.close());

const last = (replies: { type: number }[]): number => replies[replies.length - 1]!.type;
const go = (exportName: string, types: number[] = []): Buffer =>
  codec.encodeInfoRequest({ exportName, types });

describe('options', () => {
  it('lists listed exports only, and opens an unlisted one', async () => {
    const client = await RawClient.open(address);
    const replies = await client.option(OPTION.LIST, EMPTY);
    expect(replies.map(reply => reply.data.toString('utf8', 4))).toEqual(['diska disk', 'sectors', '']);
    expect(last(await client.option(OPTION.GO, go('hidden')))).toBe(REPLY.ACK);
  });

  it('describes an export: size and flags, name, description, block sizes', async () => {
    const client = await RawClient.open(address);
    const replies = await client.option(
      OPTION.INFO,
      go('disk', [INFO.NAME, INFO.DESCRIPTION, INFO.BLOCK_SIZE]),
    );
    const infos = new Map(
      replies.slice(0, -1).map(reply => [reply.data.readUInt16BE(0), reply.data.subarray(2)]),
    );
    expect(infos.get(INFO.EXPORT)!.readBigUInt64BE(0)).toBe(1048576n);
    expect(infos.get(INFO.EXPORT)!.readUInt16BE(8)).toBe(0b1101_0110_1101);
    expect(infos.get(INFO.NAME)!.toString()).toBe('disk');
    expect(infos.get(INFO.DESCRIPTION)!.toString()).toBe('a disk');
    expect(infos.get(INFO.BLOCK_SIZE)!.readUInt32BE(8)).toBe(33554432);
    expect(last(replies)).toBe(REPLY.ACK);
  });

  it('insists on block sizes where an export is particular about them', async () => {
    const client = await RawClient.open(address);
    expect(last(await client.option(OPTION.GO, go('sectors')))).toBe(REPLY.ERR_BLOCK_SIZE_REQD);
    expect(last(await client.option(OPTION.GO, go('sectors', [INFO.BLOCK_SIZE])))).toBe(REPLY.ACK);
  });

  it('lists contexts by prefix and selects them by name, after structured replies only', async () => {
    const client = await RawClient.open(address);
    const ask = (queries: string[]): Buffer => codec.encodeContextRequest({ exportName: 'disk', queries });
    const names = (replies: { data: Buffer }[]): string[] =>
      replies.slice(0, -1).map(reply => reply.data.toString('utf8', 4));
    expect(last(await client.option(OPTION.LIST_META_CONTEXT, ask([])))).toBe(REPLY.ERR_INVALID);
    expect(last(await client.option(OPTION.STRUCTURED_REPLY, EMPTY))).toBe(REPLY.ACK);
    expect(names(await client.option(OPTION.LIST_META_CONTEXT, ask([])))).toHaveLength(2);
    expect(names(await client.option(OPTION.LIST_META_CONTEXT, ask(['qemu:'])))).toEqual([
      'qemu:dirty-bitmap:monday',
    ]);
    expect(names(await client.option(OPTION.LIST_META_CONTEXT, ask(['base:'])))).toEqual(['base:allocation']);
    expect(names(await client.option(OPTION.SET_META_CONTEXT, ask(['base:', 'nothing:x'])))).toEqual([]);
    expect(names(await client.option(OPTION.SET_META_CONTEXT, ask(['base:allocation'])))).toEqual([
      'base:allocation',
    ]);
  });

  const malformed: [string, number, Buffer, number][] = [
    ['LIST with data', OPTION.LIST, Buffer.from('x'), REPLY.ERR_INVALID],
    ['STRUCTURED_REPLY with data', OPTION.STRUCTURED_REPLY, Buffer.from('x'), REPLY.ERR_INVALID],
    ['GO without data', OPTION.GO, EMPTY, REPLY.ERR_INVALID],
    [
      'GO whose name is longer than its data',
      OPTION.GO,
      Buffer.from('ffffffff61620000', 'hex'),
      REPLY.ERR_INVALID,
    ],
    ['GO with fewer types than it says', OPTION.GO, Buffer.from('00000001610002', 'hex'), REPLY.ERR_INVALID],
    ['GO with bytes behind', OPTION.GO, Buffer.concat([go('disk'), Buffer.from('x')]), REPLY.ERR_INVALID],
    ['GO with a name that is no UTF-8', OPTION.GO, Buffer.from('00000001ff0000', 'hex'), REPLY.ERR_INVALID],
    ['GO for an unknown export', OPTION.GO, go('nothing'), REPLY.ERR_UNKNOWN],
    ['STARTTLS', OPTION.STARTTLS, EMPTY, REPLY.ERR_UNSUP],
    ['an unknown option', 4711, Buffer.alloc(100), REPLY.ERR_UNSUP],
    ['an option of 200 KiB', OPTION.LIST, Buffer.alloc(200 * 1024), REPLY.ERR_TOO_BIG],
  ];
  it.each(malformed)('refuses %s and goes on', async (_, option, data, reply) => {
    const client = await RawClient.open(address);
    expect(last(await client.option(option, data))).toBe(reply);
    expect(last(await client.option(OPTION.GO, go('disk')))).toBe(REPLY.ACK);
  });

  it.each([
    '',
    '00000004',
    '000000ff6469736b',
    '000000046469736b',
    '000000046469736bffffffff',
    '000000046469736b0000000100000009',
  ])('refuses SET_META_CONTEXT with malformed data %s', async hex => {
    const client = await RawClient.open(address);
    await client.option(OPTION.STRUCTURED_REPLY, EMPTY);
    expect(last(await client.option(OPTION.SET_META_CONTEXT, Buffer.from(hex, 'hex')))).toBe(
      REPLY.ERR_INVALID,
    );
    expect(last(await client.option(OPTION.GO, go('disk')))).toBe(REPLY.ACK);
  });
});

describe('the end of a handshake', () => {
  it('answers EXPORT_NAME with padding unless NO_ZEROES was agreed on', async () => {
    for (const [flags, bytes] of [
      [3, 10],
      [1, 134],
    ] as const) {
      const client = await RawClient.open(address, flags);
      client.socket.write(codec.encodeOption(OPTION.EXPORT_NAME, Buffer.from('disk')));
      expect((await client.read(bytes)).readBigUInt64BE(0)).toBe(1048576n);
      client.send(0, 0, 1);
      expect(await client.simple()).toBe(0);
      client.destroy();
    }
  });

  it('closes on a client that asks for lists without end and reads none', async () => {
    for (let i = 0; i < 2000; i++) {
      server.addExport(
        new MemoryExport({ name: `disk ${i}`, description: 'd'.repeat(1000), sizeBytes: 512 }),
      );
    }
    const client = await RawClient.open(address);
    client.socket.pause();
    const lists = Buffer.concat(Array.from({ length: 1000 }, () => codec.encodeOption(OPTION.LIST, EMPTY)));
    client.socket.write(lists);
    await expect.poll(() => violations).toEqual(['client does not read replies']);
    client.destroy();
  });

  it('acknowledges ABORT and closes', async () => {
    const client = await RawClient.open(address);
    expect(last(await client.option(OPTION.ABORT, EMPTY))).toBe(REPLY.ACK);
    await client.ended;
    expect(violations).toEqual([]);
  });

  it.each([
    ['unknown client flags', async () => RawClient.open(address, 0x80)],
    [
      'EXPORT_NAME of an unknown export',
      async () => {
        const client = await RawClient.open(address);
        client.socket.write(codec.encodeOption(OPTION.EXPORT_NAME, Buffer.from('nothing')));
        return client;
      },
    ],
    [
      'an option without its magic',
      async () => {
        const client = await RawClient.open(address);
        client.socket.write(Buffer.alloc(64, 0x41));
        return client;
      },
    ],
    ['silence beyond the time limit', async () => RawClient.open(address)],
  ])('closes on %s', async (_, open) => {
    await (await open()).ended;
    expect(violations).toHaveLength(1);
  });
});
