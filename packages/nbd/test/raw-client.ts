// A client that sends whatever bytes a test wants, and reads replies field by field.
import { connect, type Socket } from 'node:net';
import type { NbdAddress } from '../src/index.ts';
import * as codec from '../src/option-codec.ts';
import { HANDSHAKE_FLAG, OPTION, REQUEST_BYTES, REQUEST_MAGIC } from '../src/protocol.ts';

export class RawClient {
  readonly socket: Socket;
  readonly ended: Promise<void>;
  #input: Buffer = Buffer.alloc(0);
  #wake: (() => void) | undefined;
  #ended = false;

  private constructor(address: NbdAddress) {
    this.socket = connect(address);
    this.socket.on('error', () => undefined);
    this.socket.on('data', (data: Buffer) => {
      this.#input = Buffer.concat([this.#input, data]);
      this.#wake?.();
    });
    this.ended = new Promise(resolve => {
      this.socket.on('close', () => {
        this.#ended = true;
        this.#wake?.();
        resolve();
      });
    });
  }

  /** Connects and answers the greeting. */
  static async open(
    address: NbdAddress,
    flags: number = HANDSHAKE_FLAG.FIXED_NEWSTYLE | 2,
  ): Promise<RawClient> {
    const client = new RawClient(address);
    await client.read(18);
    const answer = Buffer.alloc(4);
    answer.writeUInt32BE(flags);
    client.socket.write(answer);
    return client;
  }

  /** Opens an export with GO; contexts only together with structured replies. */
  static async go(
    address: NbdAddress,
    name: string,
    structured: boolean,
    contexts: string[] = [],
  ): Promise<RawClient> {
    const client = await RawClient.open(address);
    if (structured) await client.option(OPTION.STRUCTURED_REPLY, Buffer.alloc(0));
    if (contexts.length > 0) {
      const data = codec.encodeContextRequest({ exportName: name, queries: contexts });
      await client.option(OPTION.SET_META_CONTEXT, data);
    }
    await client.option(OPTION.GO, codec.encodeInfoRequest({ exportName: name, types: [3] }));
    return client;
  }

  async read(bytes: number): Promise<Buffer> {
    while (this.#input.byteLength < bytes) {
      if (this.#ended) throw new Error(`connection ended before ${bytes} bytes`);
      await new Promise<void>(resolve => {
        this.#wake = resolve;
      });
    }
    const taken = this.#input.subarray(0, bytes);
    this.#input = this.#input.subarray(bytes);
    return taken;
  }

  /** Sends an option and returns its replies, the last one (ACK or error) included. */
  async option(option: number, data: Buffer): Promise<{ type: number; data: Buffer }[]> {
    this.socket.write(codec.encodeOption(option, data));
    const replies: { type: number; data: Buffer }[] = [];
    for (;;) {
      const head = await this.read(20);
      const type = head.readUInt32BE(12);
      const length = head.readUInt32BE(16);
      replies.push({ type, data: length === 0 ? Buffer.alloc(0) : await this.read(length) });
      if (type === 1 || type >= 2 ** 31) return replies;
    }
  }

  send(
    command: number,
    offset: number | bigint,
    length: number,
    flags = 0,
    cookie = 7n,
    data?: Buffer,
  ): void {
    this.socket.write(request(command, offset, length, flags, cookie));
    if (data !== undefined) this.socket.write(data);
  }

  /** A simple reply's errno. */
  async simple(): Promise<number> {
    const reply = await this.read(16);
    if (reply.readUInt32BE(0) !== 0x67446698) throw new Error('not a simple reply');
    return reply.readUInt32BE(4);
  }

  /** One structured chunk. */
  async chunk(): Promise<{ done: boolean; type: number; cookie: bigint; data: Buffer }> {
    const head = await this.read(20);
    if (head.readUInt32BE(0) !== 0x668e33ef) throw new Error('not a structured reply');
    const length = head.readUInt32BE(16);
    return {
      done: head.readUInt16BE(4) === 1,
      type: head.readUInt16BE(6),
      cookie: head.readBigUInt64BE(8),
      data: length === 0 ? Buffer.alloc(0) : await this.read(length),
    };
  }

  destroy(): void {
    this.socket.destroy();
  }
}

export function request(
  command: number,
  offset: number | bigint,
  length: number,
  flags = 0,
  cookie = 7n,
): Buffer {
  const head = Buffer.alloc(REQUEST_BYTES);
  head.writeUInt32BE(REQUEST_MAGIC, 0);
  head.writeUInt16BE(flags, 4);
  head.writeUInt16BE(command, 6);
  head.writeBigUInt64BE(cookie, 8);
  head.writeBigUInt64BE(BigInt(offset), 16);
  head.writeUInt32BE(length, 24);
  return head;
}
