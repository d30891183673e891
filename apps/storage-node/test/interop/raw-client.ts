// An NBD client that sends whatever it is told to: real clients refuse wrong requests before a server sees them.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

const GREETING_BYTES = 18;
/** Size and transmission flags: all that answers the oldest way of choosing an export. */
const EXPORT_BYTES = 10;
const REPLY_BYTES = 16;
const FIXED_NEWSTYLE_NO_ZEROES = 3;
const OPTION_EXPORT_NAME = 1;
const REQUEST_MAGIC = 0x25609513;
const WRITE = 1;

export class RawClient {
  readonly #socket: Socket;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  static async connect(uri: string): Promise<RawClient> {
    const { hostname, port, pathname } = new URL(uri);
    const socket = connect(Number(port), hostname);
    await once(socket, 'connect');
    const client = new RawClient(socket);
    await client.#receive(GREETING_BYTES);
    const name = Buffer.from(decodeURIComponent(pathname.slice(1)));
    const hello = Buffer.alloc(20);
    hello.writeUInt32BE(FIXED_NEWSTYLE_NO_ZEROES, 0);
    hello.write('IHAVEOPT', 4);
    hello.writeUInt32BE(OPTION_EXPORT_NAME, 12);
    hello.writeUInt32BE(name.length, 16);
    socket.write(Buffer.concat([hello, name]));
    await client.#receive(EXPORT_BYTES);
    return client;
  }

  /** The errno of the simple reply; 0 for success. A write's data are all the letter x. */
  async request(command: number, offset: number, length: number): Promise<number> {
    const header = Buffer.alloc(28);
    header.writeUInt32BE(REQUEST_MAGIC, 0);
    header.writeUInt16BE(command, 6);
    header.writeBigUInt64BE(BigInt(offset), 16);
    header.writeUInt32BE(length, 24);
    const data = command === WRITE ? Buffer.alloc(length, 'x') : Buffer.alloc(0);
    this.#socket.write(Buffer.concat([header, data]));
    return (await this.#receive(REPLY_BYTES)).readUInt32BE(4);
  }

  close(): void {
    this.#socket.destroy();
  }

  async #receive(bytes: number): Promise<Buffer> {
    for (;;) {
      const piece: Buffer | null = this.#socket.read(bytes);
      if (piece !== null) return piece;
      if (this.#socket.readableEnded) throw new Error('the server closed the connection');
      await Promise.race([once(this.#socket, 'readable'), once(this.#socket, 'end')]);
    }
  }
}
