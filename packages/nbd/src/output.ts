// Outgoing bytes of one connection. Small messages are laid out one behind the other in an arena and leave
// in one write; large ones go as they are; everything of one turn is handed to the socket together.
import type { Socket } from 'node:net';
import type { BufferPool } from './buffer-pool.ts';
import { ARENA_BYTES, GATHER_BYTES_MAX } from './limits.ts';

/** Memory shared by small messages; it goes back to the pool when the last of them was sent. */
class Arena {
  readonly buffer: Buffer;
  readonly #pool: BufferPool;
  readonly #onSent: () => void;
  /** Messages not sent yet, and one more while new ones are laid out here. */
  #users = 1;

  constructor(pool: BufferPool, onSent: () => void) {
    this.#pool = pool;
    this.#onSent = onSent;
    this.buffer = pool.take(ARENA_BYTES);
  }

  /** No message waits: the layout may begin at the front again. */
  get unused(): boolean {
    return this.#users === 1;
  }

  hold(): void {
    this.#users++;
  }

  release(): void {
    if (--this.#users === 0) this.#pool.give(this.buffer);
  }

  /** Bound, so that each write can name it as its callback without a closure. */
  readonly sent = (): void => {
    this.release();
    this.#onSent();
  };
}

/** A message cut out of an arena, to be filled and sent later. */
export interface ArenaSlice {
  readonly arena: Arena;
  readonly start: number;
  readonly end: number;
}

type Sent = () => void;

export class Output {
  readonly #socket: Socket;
  readonly #pool: BufferPool;
  /** Called after each write that the kernel has taken. */
  readonly #onSent: () => void;
  #arena: Arena;
  /** Arena bytes from here to `at` are messages not gathered yet. */
  #segmentStart = 0;
  #at = 0;
  #pieces: Buffer[] = [];
  #callbacks: Sent[] = [];
  #gatheredBytes = 0;
  #flushScheduled = false;
  #closed = false;

  constructor(socket: Socket, pool: BufferPool, onSent: () => void) {
    this.#socket = socket;
    this.#pool = pool;
    this.#onSent = onSent;
    this.#arena = new Arena(pool, onSent);
  }

  /** Room for a message of `bytes`: the arena to write to, from `at` on. */
  reserve(bytes: number): Buffer {
    if (this.#segmentStart === this.#at && this.#at > 0 && this.#arena.unused) {
      this.#segmentStart = 0;
      this.#at = 0;
    }
    if (this.#arena.buffer.byteLength - this.#at < bytes) {
      this.#closeSegment();
      this.#arena.release();
      this.#arena = new Arena(this.#pool, this.#onSent);
      this.#segmentStart = 0;
      this.#at = 0;
    }
    return this.#arena.buffer;
  }

  /** Where the reserved room begins. */
  get at(): number {
    return this.#at;
  }

  /** The first `bytes` of the reserved room are a finished message. */
  commit(bytes: number): void {
    this.#at += bytes;
    if (this.#at - this.#segmentStart + this.#gatheredBytes >= GATHER_BYTES_MAX) this.flush();
  }

  /** Takes the reserved room out of the line; `sendSlice` sends it or `dropSlice` gives it back. */
  detach(bytes: number): ArenaSlice {
    this.#closeSegment();
    const start = this.#at;
    this.#at += bytes;
    this.#segmentStart = this.#at;
    this.#arena.hold();
    return { arena: this.#arena, start, end: this.#at };
  }

  sendSlice(slice: ArenaSlice): void {
    this.push(slice.arena.buffer.subarray(slice.start, slice.end), slice.arena.sent);
  }

  dropSlice(slice: ArenaSlice): void {
    slice.arena.release();
  }

  /** Sends bytes that live elsewhere; `sent` is called when nobody reads them any more. */
  push(piece: Buffer, sent: Sent): void {
    this.#closeSegment();
    this.#gather(piece, sent);
    if (this.#gatheredBytes >= GATHER_BYTES_MAX) this.flush();
  }

  /** The same for a buffer of the pool, which goes back there. */
  pushPooled(piece: Buffer, owner: Buffer): void {
    this.push(piece, () => {
      this.#pool.give(owner);
      this.#onSent();
    });
  }

  /** Bytes that the peer has not taken yet. */
  get waitingBytes(): number {
    return this.#socket.writableLength + this.#gatheredBytes + this.#at - this.#segmentStart;
  }

  /** Sends at the end of this turn of the event loop what comes together until then. */
  flushSoon(): void {
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    setImmediate(this.#scheduledFlush);
  }

  readonly #scheduledFlush = (): void => {
    this.#flushScheduled = false;
    this.flush();
  };

  /** Hands all messages to the socket: one write, or one gathered write. */
  flush(): void {
    this.#closeSegment();
    const count = this.#pieces.length;
    if (count === 0) return;
    const pieces = this.#pieces;
    const callbacks = this.#callbacks;
    this.#pieces = count > 1 ? [] : pieces;
    this.#callbacks = count > 1 ? [] : callbacks;
    this.#gatheredBytes = 0;
    if (count === 1) {
      const piece = pieces.pop()!;
      const sent = callbacks.pop()!;
      if (this.#closed) sent();
      else this.#socket.write(piece, sent);
    } else {
      this.#flushMany(pieces, callbacks);
    }
  }

  #flushMany(pieces: Buffer[], callbacks: Sent[]): void {
    if (this.#closed) {
      for (const sent of callbacks) sent();
      return;
    }
    this.#socket.cork();
    for (let i = 0; i < pieces.length; i++) this.#socket.write(pieces[i]!, callbacks[i]!);
    this.#socket.uncork();
  }

  /** The socket is gone: whatever waits or comes later is dropped, and its memory given back. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.flush();
  }

  #closeSegment(): void {
    if (this.#segmentStart === this.#at) return;
    const piece = this.#arena.buffer.subarray(this.#segmentStart, this.#at);
    this.#segmentStart = this.#at;
    this.#arena.hold();
    this.#gather(piece, this.#arena.sent);
  }

  #gather(piece: Buffer, sent: Sent): void {
    this.#pieces.push(piece);
    this.#callbacks.push(sent);
    this.#gatheredBytes += piece.byteLength;
  }
}
