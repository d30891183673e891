// Large buffers that are used again and again, because allocating and page-faulting a fresh one costs more
// than filling it. One pool serves a whole server or client.
import { POOL_IDLE_BYTES_MAX } from './limits.ts';

/** Every buffer has this much more than a power of two, so that a reply's header fits in front of its data. */
const EXTRA_BYTES = 4096;
const SMALLEST_CLASS = 13;

/** A buffer's content is whatever its last user left there. */
export class BufferPool {
  readonly #idle = new Map<number, Buffer[]>();
  readonly #idleBytesMax: number;
  #idleBytes = 0;

  constructor(idleBytesMax: number = POOL_IDLE_BYTES_MAX) {
    this.#idleBytesMax = idleBytesMax;
  }

  /** A buffer of at least `bytes`. */
  take(bytes: number): Buffer {
    const size = sizeFor(bytes);
    const buffer = this.#idle.get(size)?.pop();
    if (buffer === undefined) return Buffer.allocUnsafeSlow(size);
    this.#idleBytes -= size;
    return buffer;
  }

  /** Returns what `take` gave, whole; the caller must not touch it afterwards. */
  give(buffer: Buffer): void {
    const size = buffer.byteLength;
    if (this.#idleBytes + size > this.#idleBytesMax) return;
    this.#idleBytes += size;
    const idle = this.#idle.get(size);
    if (idle === undefined) this.#idle.set(size, [buffer]);
    else idle.push(buffer);
  }

  /** Bytes in buffers that nobody uses. */
  get idleBytes(): number {
    return this.#idleBytes;
  }
}

function sizeFor(bytes: number): number {
  const bits = bytes <= EXTRA_BYTES ? 0 : 32 - Math.clz32(bytes - EXTRA_BYTES - 1);
  return 2 ** Math.max(bits, SMALLEST_CLASS) + EXTRA_BYTES;
}
