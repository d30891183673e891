// Incoming bytes of one connection. The kernel reads into a chunk that is used again for the next read,
// unless a request still points into it, or straight into the place of a large payload.
import { Socket, type SocketConstructorOpts } from 'node:net';
import type { BufferPool } from './buffer-pool.ts';
import { INPUT_CHUNK_BYTES } from './limits.ts';

/** Memory that one socket read fills. */
export class Chunk {
  readonly buffer: Buffer;
  readonly #owner: Buffer;
  readonly #pool: BufferPool;
  #users = 1;

  constructor(pool: BufferPool) {
    this.#pool = pool;
    this.#owner = pool.take(INPUT_CHUNK_BYTES);
    this.buffer = this.#owner.subarray(0, INPUT_CHUNK_BYTES);
  }

  /** Somebody besides the socket still points into it. */
  get shared(): boolean {
    return this.#users > 1;
  }

  hold(): void {
    this.#users++;
  }

  release(): void {
    if (--this.#users === 0) this.#pool.give(this.#owner);
  }
}

/** What a connection gives to its socket, and gets from it. */
export interface ByteReceiver {
  /** Where the next read goes. */
  nextBuffer(): Buffer;
  /** The first `length` bytes of `buffer` have arrived; `buffer` is the last `nextBuffer`, or a fresh one. */
  receive(buffer: Buffer, length: number): void;
}

/** The chunk in use, exchanged for another as soon as requests hold on to it. */
export class ChunkSource {
  readonly #pool: BufferPool;
  #current: Chunk;

  constructor(pool: BufferPool) {
    this.#pool = pool;
    this.#current = new Chunk(pool);
  }

  next(): Buffer {
    if (this.#current.shared) {
      this.#current.release();
      this.#current = new Chunk(this.#pool);
    }
    return this.#current.buffer;
  }

  /** The chunk that `buffer` is, or undefined for memory that nobody will use again. */
  owner(buffer: Buffer): Chunk | undefined {
    return buffer === this.#current.buffer ? this.#current : undefined;
  }
}

/** The `onread` option of node:net that feeds a receiver. */
export function onreadFor(receiver: ByteReceiver): SocketConstructorOpts['onread'] {
  return {
    buffer: () => receiver.nextBuffer() as Uint8Array<ArrayBuffer>,
    callback: (length, buffer) => {
      receiver.receive(buffer as Buffer, length);
      return true;
    },
  };
}

interface SocketInside {
  _handle?: { useUserBuffer?: unknown } | null;
}

/**
 * Makes an accepted socket read into the receiver's memory. node:net offers that for outgoing sockets only,
 * so the connection is wrapped anew; where its inside looks different, plain `data` events do the same job
 * more slowly. The socket given must not be used afterwards. It must have been accepted paused.
 */
export function adoptSocket(accepted: Socket, receiver: ByteReceiver): Socket {
  const inside = accepted as unknown as SocketInside;
  const handle = inside._handle;
  if (typeof handle?.useUserBuffer !== 'function') {
    accepted.on('data', (data: Buffer) => receiver.receive(data, data.byteLength));
    accepted.resume();
    return accepted;
  }
  inside._handle = null;
  accepted.destroy();
  const options = { handle, onread: onreadFor(receiver), readable: true, writable: true };
  return new Socket(options as SocketConstructorOpts);
}
