// The memory of one block copy: a bounded number of bytes in buffers that are used again, handed to guest
// copies before job copies, since a guest waits for them.

export class BufferBudget {
  #freeBytes: number;
  readonly #chunkBytes: number;
  readonly #chunks: Buffer[] = [];
  readonly #guests: (() => void)[] = [];
  readonly #jobs: (() => void)[] = [];

  constructor(options: { totalBytes: number; chunkBytes: number }) {
    this.#freeBytes = options.totalBytes;
    this.#chunkBytes = options.chunkBytes;
  }

  /** A buffer of `length` bytes, at most one chunk, whose contents are whatever they were. */
  async take(length: number, guest: boolean): Promise<Buffer> {
    while (this.#freeBytes < this.#chunkBytes || (!guest && this.#guests.length > 0)) {
      await new Promise<void>(wake => (guest ? this.#guests : this.#jobs).push(wake));
    }
    return this.#hand(length);
  }

  #hand(length: number): Buffer {
    this.#freeBytes -= this.#chunkBytes;
    const chunk = this.#chunks.pop() ?? Buffer.allocUnsafeSlow(this.#chunkBytes);
    return length === this.#chunkBytes ? chunk : chunk.subarray(0, length);
  }

  /** A buffer where one is free at once and nobody waits for it; undefined otherwise. */
  takeNow(length: number): Buffer | undefined {
    const waiting = this.#guests.length + this.#jobs.length;
    return waiting > 0 || this.#freeBytes < this.#chunkBytes ? undefined : this.#hand(length);
  }

  give(buffer: Buffer): void {
    this.#freeBytes += this.#chunkBytes;
    this.#chunks.push(Buffer.from(buffer.buffer, 0, this.#chunkBytes));
    (this.#guests.shift() ?? this.#jobs.shift())?.();
  }
}
