// Replies of the transmission phase, client side: finds the request a reply belongs to and puts READ's data
// where the caller wants it, large pieces straight from the kernel. The server is not trusted.
import type { BufferPool } from './buffer-pool.ts';
import type { ClientRequest } from './client-request.ts';
import { ERRNO_MESSAGES, errnoName, NbdError, NbdProtocolError } from './errors.ts';
import type { StatusExtent } from './export.ts';
import { type ByteReceiver, ChunkSource } from './input.ts';
import { CHUNK_BYTES_MAX, CHUNKS_MAX, DIRECT_READ_BYTES_MIN } from './limits.ts';
import {
  CHUNK,
  CHUNK_ERROR_BIT,
  CHUNK_FLAG_DONE,
  CHUNK_HEADER_BYTES,
  COMMAND,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from './protocol.ts';

export interface RepliesHost {
  readonly structured: boolean;
  /** The request with this cookie, if it is in flight. */
  find(cookieHigh: number, cookieLow: number): ClientRequest | undefined;
  /** The request has its last reply. */
  complete(request: ClientRequest, cookieLow: number): void;
}

/** Part of a message under way: how many bytes are wanted, and what to do when they are there. */
interface Part {
  readonly target: Buffer;
  filled: number;
  readonly whenFilled: () => void;
}

export class ClientReplies implements ByteReceiver {
  readonly #host: RepliesHost;
  readonly #chunks: ChunkSource;
  readonly #header = Buffer.alloc(CHUNK_HEADER_BYTES);
  #headerFilled = 0;
  /** Data or details that follow a header. */
  #part: Part | undefined;
  #direct: Buffer | undefined;

  constructor(host: RepliesHost, pool: BufferPool) {
    this.#host = host;
    this.#chunks = new ChunkSource(pool);
  }

  nextBuffer(): Buffer {
    const part = this.#part;
    if (part !== undefined && part.target.byteLength - part.filled >= DIRECT_READ_BYTES_MIN) {
      this.#direct = part.target.subarray(part.filled);
      return this.#direct;
    }
    this.#direct = undefined;
    return this.#chunks.next();
  }

  /** @throws NbdProtocolError when the server broke the protocol; the connection is of no use then. */
  receive(buffer: Buffer, length: number): void {
    if (buffer === this.#direct) {
      this.#advance(length);
      return;
    }
    let at = 0;
    while (at < length) {
      if (this.#part !== undefined) {
        const part = this.#part;
        const bytes = Math.min(length - at, part.target.byteLength - part.filled);
        buffer.copy(part.target, part.filled, at, at + bytes);
        at += bytes;
        this.#advance(bytes);
        continue;
      }
      const wanted = this.#headerFilled < 4 ? 4 : this.#headerBytes();
      const bytes = Math.min(length - at, wanted - this.#headerFilled);
      buffer.copy(this.#header, this.#headerFilled, at, at + bytes);
      this.#headerFilled += bytes;
      at += bytes;
      if (this.#headerFilled >= 4 && this.#headerFilled === this.#headerBytes()) this.#onHeader();
    }
  }

  #advance(bytes: number): void {
    const part = this.#part!;
    part.filled += bytes;
    if (part.filled < part.target.byteLength) return;
    this.#part = undefined;
    this.#direct = undefined;
    part.whenFilled();
  }

  #headerBytes(): number {
    const magic = this.#header.readUInt32BE(0);
    if (magic === SIMPLE_REPLY_MAGIC) return SIMPLE_REPLY_BYTES;
    if (magic === STRUCTURED_REPLY_MAGIC && this.#host.structured) return CHUNK_HEADER_BYTES;
    throw new NbdProtocolError(`the server sent a reply that begins with 0x${magic.toString(16)}`);
  }

  #onHeader(): void {
    this.#headerFilled = 0;
    const cookieLow = this.#header.readUInt32BE(12);
    const request = this.#host.find(this.#header.readUInt32BE(8), cookieLow);
    if (request === undefined)
      throw new NbdProtocolError('the server answered a request that was never made');
    if (this.#header.readUInt32BE(0) === SIMPLE_REPLY_MAGIC) this.#onSimple(request, cookieLow);
    else this.#onChunk(request, cookieLow);
  }

  #onSimple(request: ClientRequest, cookieLow: number): void {
    const errno = this.#header.readUInt32BE(4);
    if (errno !== 0) {
      request.error ??= serverError(request, errno, '');
    } else if (request.command === COMMAND.READ || request.command === COMMAND.BLOCK_STATUS) {
      if (this.#host.structured || request.command === COMMAND.BLOCK_STATUS) {
        throw new NbdProtocolError('the server sent a simple reply where a structured one was agreed on');
      }
      request.accept(0, request.length);
      this.#expect(request.buffer!, () => this.#host.complete(request, cookieLow));
      return;
    }
    this.#host.complete(request, cookieLow);
  }

  #onChunk(request: ClientRequest, cookieLow: number): void {
    const done = (this.#header.readUInt16BE(4) & CHUNK_FLAG_DONE) !== 0;
    const type = this.#header.readUInt16BE(6);
    const length = this.#header.readUInt32BE(16);
    if (++request.chunks > CHUNKS_MAX) throw new NbdProtocolError('the server answers in too many chunks');
    const end = (): void => {
      if (done) this.#host.complete(request, cookieLow);
    };
    if (type === CHUNK.OFFSET_DATA) {
      if (request.command !== COMMAND.READ || length <= 8) throw malformed(type, length);
      this.#expect(Buffer.alloc(8), head => this.#onData(request, head, length - 8, end));
      return;
    }
    if (length > CHUNK_BYTES_MAX) throw malformed(type, length);
    if (length === 0) {
      this.#onDetails(request, type, Buffer.alloc(0));
      end();
      return;
    }
    this.#expect(Buffer.alloc(length), details => {
      this.#onDetails(request, type, details);
      end();
    });
  }

  #onData(request: ClientRequest, head: Buffer, length: number, end: () => void): void {
    const start = Number(head.readBigUInt64BE(0)) - request.offset;
    if (!request.accept(start, length)) {
      throw new NbdProtocolError('the server sent data outside the requested range, or twice');
    }
    this.#expect(request.buffer!.subarray(start, start + length), end);
  }

  #onDetails(request: ClientRequest, type: number, details: Buffer): void {
    if (type === CHUNK.NONE && details.byteLength === 0) return;
    if (type === CHUNK.OFFSET_HOLE && details.byteLength === 12 && request.command === COMMAND.READ) {
      const start = Number(details.readBigUInt64BE(0)) - request.offset;
      const length = details.readUInt32BE(8);
      if (!request.accept(start, length)) {
        throw new NbdProtocolError('the server reported a hole outside the requested range, or twice');
      }
      request.buffer!.fill(0, start, start + length);
    } else if (type === CHUNK.BLOCK_STATUS && request.command === COMMAND.BLOCK_STATUS) {
      this.#onStatus(request, details);
    } else if ((type & CHUNK_ERROR_BIT) !== 0 && details.byteLength >= 6) {
      const length = details.readUInt16BE(4);
      if (length > details.byteLength - 6) throw malformed(type, details.byteLength);
      request.error ??= serverError(
        request,
        details.readUInt32BE(0),
        details.toString('utf8', 6, 6 + length),
      );
    } else {
      throw malformed(type, details.byteLength);
    }
  }

  #onStatus(request: ClientRequest, details: Buffer): void {
    if (details.byteLength < 12 || (details.byteLength - 4) % 8 !== 0) {
      throw malformed(CHUNK.BLOCK_STATUS, details.byteLength);
    }
    const extents: StatusExtent[] = [];
    for (let at = 4; at < details.byteLength; at += 8) {
      const length = details.readUInt32BE(at);
      if (length === 0) throw new NbdProtocolError('the server reported an extent of no bytes');
      extents.push({ length, flags: details.readUInt32BE(at + 4) });
    }
    request.status ??= new Map();
    const id = details.readUInt32BE(0);
    if (request.status.has(id)) throw new NbdProtocolError('the server reported one context twice');
    request.status.set(id, extents);
  }

  #expect(target: Buffer, whenFilled: (target: Buffer) => void): void {
    this.#part = { target, filled: 0, whenFilled: () => whenFilled(target) };
  }
}

function malformed(type: number, length: number): NbdProtocolError {
  return new NbdProtocolError(`the server sent a malformed chunk: type ${type}, ${length} bytes`);
}

const COMMAND_NAMES = new Map<number, string>(
  Object.entries(COMMAND).map(([name, code]) => [code, name.toLowerCase()]),
);

function serverError(request: ClientRequest, code: number, text: string): NbdError {
  const errno = errnoName(code);
  const what = `${COMMAND_NAMES.get(request.command)} of ${request.length} bytes at ${request.offset}`;
  return new NbdError(errno, `${what} failed with ${errno}: ${text === '' ? ERRNO_MESSAGES[errno] : text}`);
}
