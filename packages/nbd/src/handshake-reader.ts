// Bytes of a client's handshake, handed out in the lengths it asks for.

import { NbdProtocolError } from './errors.ts';
import type { ByteReceiver } from './input.ts';
import { CHUNK_BYTES_MAX } from './limits.ts';

const READ_BYTES = 16_384;

/** Takes what comes and serves one `read` at a time. */
export class HandshakeReader implements ByteReceiver {
  readonly #buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  #input: Buffer = Buffer.alloc(0);
  #failure: Error | undefined;
  #wanted: { bytes: number; resolve: (bytes: Buffer) => void; reject: (error: Error) => void } | undefined;

  nextBuffer(): Buffer {
    return this.#buffer;
  }

  receive(buffer: Buffer, length: number): void {
    this.#input = Buffer.concat([this.#input, buffer.subarray(0, length)]);
    if (this.#input.byteLength > CHUNK_BYTES_MAX)
      this.fail(new NbdProtocolError('the server sends without end'));
    this.#serve();
  }

  /** Bytes that nobody asked for yet. */
  get bufferedBytes(): number {
    return this.#input.byteLength;
  }

  read(bytes: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.#wanted = { bytes, resolve, reject };
      this.#serve();
    });
  }

  /** Rejects the read under way and every later one; only the first reason counts. */
  fail(reason: Error): void {
    this.#failure ??= reason;
    this.#serve();
  }

  #serve(): void {
    const wanted = this.#wanted;
    if (wanted === undefined) return;
    if (this.#input.byteLength >= wanted.bytes) {
      this.#wanted = undefined;
      const bytes = this.#input.subarray(0, wanted.bytes);
      this.#input = this.#input.subarray(wanted.bytes);
      wanted.resolve(bytes);
    } else if (this.#failure !== undefined) {
      this.#wanted = undefined;
      wanted.reject(this.#failure);
    }
  }
}
