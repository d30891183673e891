// Replies of the transmission phase, server side: lays out simple replies and structured chunks in the
// connection's output. Sections "Simple reply message" and "Structured reply chunk message".

import type { StatusExtent } from './export.ts';
import { ERROR_MESSAGE_BYTES_MAX } from './limits.ts';
import type { ArenaSlice, Output } from './output.ts';
import {
  CHUNK,
  CHUNK_FLAG_DONE,
  CHUNK_HEADER_BYTES,
  CHUNK_OFFSET_BYTES,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from './protocol.ts';

/** The 64-bit value by which a client knows its request again, in two halves to stay out of bigints. */
export interface Cookie {
  cookieHigh: number;
  cookieLow: number;
}

export class ReplyWriter {
  readonly output: Output;
  readonly structured: boolean;
  /** Bytes in front of the data of a successful READ. */
  readonly readHeaderBytes: number;

  constructor(output: Output, structured: boolean) {
    this.output = output;
    this.structured = structured;
    this.readHeaderBytes = structured ? CHUNK_HEADER_BYTES + CHUNK_OFFSET_BYTES : SIMPLE_REPLY_BYTES;
  }

  /** Success without data. A simple reply is allowed for every command but READ in both modes. */
  done(cookie: Cookie): void {
    const buffer = this.output.reserve(SIMPLE_REPLY_BYTES);
    writeSimple(buffer, this.output.at, 0, cookie);
    this.output.commit(SIMPLE_REPLY_BYTES);
  }

  /** Success of a READ of no bytes. */
  doneEmptyRead(cookie: Cookie): void {
    if (!this.structured) {
      this.done(cookie);
      return;
    }
    const buffer = this.output.reserve(CHUNK_HEADER_BYTES);
    writeChunk(buffer, this.output.at, CHUNK_FLAG_DONE, CHUNK.NONE, cookie, 0);
    this.output.commit(CHUNK_HEADER_BYTES);
  }

  /** Failure; the message is for people, and only structured replies carry it. */
  failed(cookie: Cookie, errno: number, message: string): void {
    if (!this.structured) {
      const buffer = this.output.reserve(SIMPLE_REPLY_BYTES);
      writeSimple(buffer, this.output.at, errno, cookie);
      this.output.commit(SIMPLE_REPLY_BYTES);
      return;
    }
    const text = Buffer.from(message.slice(0, ERROR_MESSAGE_BYTES_MAX / 4));
    const bytes = CHUNK_HEADER_BYTES + 6 + text.byteLength;
    const buffer = this.output.reserve(bytes);
    const at = this.output.at;
    writeChunk(buffer, at, CHUNK_FLAG_DONE, CHUNK.ERROR, cookie, 6 + text.byteLength);
    buffer.writeUInt32BE(errno, at + CHUNK_HEADER_BYTES);
    buffer.writeUInt16BE(text.byteLength, at + CHUNK_HEADER_BYTES + 4);
    text.copy(buffer, at + CHUNK_HEADER_BYTES + 6);
    this.output.commit(bytes);
  }

  /** Puts the header of a READ reply at `at`, in front of `length` bytes of data. */
  readHeader(buffer: Buffer, at: number, cookie: Cookie, offset: number, length: number): void {
    if (!this.structured) {
      writeSimple(buffer, at, 0, cookie);
      return;
    }
    writeChunk(buffer, at, CHUNK_FLAG_DONE, CHUNK.OFFSET_DATA, cookie, CHUNK_OFFSET_BYTES + length);
    buffer.writeUInt32BE(Math.floor(offset / 2 ** 32), at + CHUNK_HEADER_BYTES);
    buffer.writeUInt32BE(offset % 2 ** 32, at + CHUNK_HEADER_BYTES + 4);
  }

  /** Sends a READ reply whose data lies in a slice of the arena, behind room for the header. */
  readSlice(slice: ArenaSlice, cookie: Cookie, offset: number, length: number): void {
    this.readHeader(slice.arena.buffer, slice.start, cookie, offset, length);
    this.output.sendSlice(slice);
  }

  /** The same for a buffer of its own, which goes back to the pool once it was sent. */
  readPooled(buffer: Buffer, cookie: Cookie, offset: number, length: number): void {
    this.readHeader(buffer, 0, cookie, offset, length);
    this.output.pushPooled(buffer.subarray(0, this.readHeaderBytes + length), buffer);
  }

  /** One context's chunk of a BLOCK_STATUS reply; the last one says that the reply is complete. */
  status(cookie: Cookie, contextId: number, extents: readonly StatusExtent[], last: boolean): void {
    const length = 4 + extents.length * 8;
    const bytes = CHUNK_HEADER_BYTES + length;
    const buffer = this.output.reserve(bytes);
    let at = this.output.at;
    writeChunk(buffer, at, last ? CHUNK_FLAG_DONE : 0, CHUNK.BLOCK_STATUS, cookie, length);
    at = buffer.writeUInt32BE(contextId, at + CHUNK_HEADER_BYTES);
    for (const extent of extents) {
      at = buffer.writeUInt32BE(extent.length, at);
      at = buffer.writeUInt32BE(extent.flags >>> 0, at);
    }
    this.output.commit(bytes);
  }
}

function writeSimple(buffer: Buffer, at: number, errno: number, cookie: Cookie): void {
  buffer.writeUInt32BE(SIMPLE_REPLY_MAGIC, at);
  buffer.writeUInt32BE(errno, at + 4);
  buffer.writeUInt32BE(cookie.cookieHigh, at + 8);
  buffer.writeUInt32BE(cookie.cookieLow, at + 12);
}

function writeChunk(
  buffer: Buffer,
  at: number,
  flags: number,
  type: number,
  cookie: Cookie,
  length: number,
): void {
  buffer.writeUInt32BE(STRUCTURED_REPLY_MAGIC, at);
  buffer.writeUInt16BE(flags, at + 4);
  buffer.writeUInt16BE(type, at + 6);
  buffer.writeUInt32BE(cookie.cookieHigh, at + 8);
  buffer.writeUInt32BE(cookie.cookieLow, at + 12);
  buffer.writeUInt32BE(length, at + 16);
}
