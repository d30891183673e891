// Data of the options and their replies, both directions: bounded decoding for the server, encoding for the
// client. A decoder returns undefined for malformed data and never reads past its input.

import { STRING_BYTES_MAX } from './limits.ts';
import {
  INFO,
  OPTION_HEADER_BYTES,
  OPTION_MAGIC,
  OPTION_REPLY_HEADER_BYTES,
  OPTION_REPLY_MAGIC,
} from './protocol.ts';

const UTF8 = new TextDecoder('utf-8', { fatal: true });

/** A protocol string: valid UTF-8 without NUL, at most 4096 bytes (section "Conventions"). */
export function decodeString(bytes: Uint8Array): string | undefined {
  if (bytes.byteLength > STRING_BYTES_MAX || bytes.includes(0)) return undefined;
  try {
    return UTF8.decode(bytes);
  } catch {
    return undefined;
  }
}

export interface InfoRequest {
  readonly exportName: string;
  /** Information types asked for. */
  readonly types: readonly number[];
}

/** Data of INFO and GO: name length, name, count, types (section "NBD_OPT_GO"). */
export function decodeInfoRequest(data: Buffer): InfoRequest | undefined {
  if (data.byteLength < 6) return undefined;
  const nameLength = data.readUInt32BE(0);
  if (nameLength > data.byteLength - 6) return undefined;
  const exportName = decodeString(data.subarray(4, 4 + nameLength));
  const count = data.readUInt16BE(4 + nameLength);
  if (exportName === undefined || data.byteLength !== 6 + nameLength + count * 2) return undefined;
  const types: number[] = [];
  for (let i = 0; i < count; i++) types.push(data.readUInt16BE(6 + nameLength + i * 2));
  return { exportName, types };
}

export function encodeInfoRequest(request: InfoRequest): Buffer {
  const name = Buffer.from(request.exportName);
  const data = Buffer.alloc(6 + name.byteLength + request.types.length * 2);
  data.writeUInt32BE(name.byteLength, 0);
  name.copy(data, 4);
  let at = data.writeUInt16BE(request.types.length, 4 + name.byteLength);
  for (const type of request.types) at = data.writeUInt16BE(type, at);
  return data;
}

export interface ContextRequest {
  readonly exportName: string;
  readonly queries: readonly string[];
}

/** Data of LIST_ and SET_META_CONTEXT: name length, name, count, then length and text of each query. */
export function decodeContextRequest(data: Buffer): ContextRequest | undefined {
  if (data.byteLength < 8) return undefined;
  const nameLength = data.readUInt32BE(0);
  if (nameLength > data.byteLength - 8) return undefined;
  const exportName = decodeString(data.subarray(4, 4 + nameLength));
  if (exportName === undefined) return undefined;
  const count = data.readUInt32BE(4 + nameLength);
  const queries: string[] = [];
  let at = 8 + nameLength;
  for (let i = 0; i < count; i++) {
    if (data.byteLength - at < 4) return undefined;
    const length = data.readUInt32BE(at);
    at += 4;
    if (length > data.byteLength - at) return undefined;
    const query = decodeString(data.subarray(at, at + length));
    if (query === undefined) return undefined;
    queries.push(query);
    at += length;
  }
  return at === data.byteLength ? { exportName, queries } : undefined;
}

export function encodeContextRequest(request: ContextRequest): Buffer {
  const name = Buffer.from(request.exportName);
  const head = Buffer.alloc(8 + name.byteLength);
  head.writeUInt32BE(name.byteLength, 0);
  name.copy(head, 4);
  head.writeUInt32BE(request.queries.length, 4 + name.byteLength);
  const parts: Buffer[] = [head];
  for (const query of request.queries) {
    const text = Buffer.from(query);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(text.byteLength);
    parts.push(length, text);
  }
  return Buffer.concat(parts);
}

export function encodeOption(option: number, data: Buffer): Buffer {
  const head = Buffer.alloc(OPTION_HEADER_BYTES);
  head.writeBigUInt64BE(OPTION_MAGIC, 0);
  head.writeUInt32BE(option, 8);
  head.writeUInt32BE(data.byteLength, 12);
  return Buffer.concat([head, data]);
}

export function encodeOptionReply(option: number, reply: number, data: Buffer): Buffer {
  const head = Buffer.alloc(OPTION_REPLY_HEADER_BYTES);
  head.writeBigUInt64BE(OPTION_REPLY_MAGIC, 0);
  head.writeUInt32BE(option, 8);
  head.writeUInt32BE(reply, 12);
  head.writeUInt32BE(data.byteLength, 16);
  return Buffer.concat([head, data]);
}

/** Size and flags, as EXPORT_NAME answers them. */
export function encodeSizeAndFlags(sizeBytes: number, flags: number): Buffer {
  const data = Buffer.alloc(10);
  data.writeBigUInt64BE(BigInt(sizeBytes), 0);
  data.writeUInt16BE(flags, 8);
  return data;
}

export function encodeInfo(type: number, content: Buffer): Buffer {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(type);
  return Buffer.concat([head, content]);
}

export interface BlockSizes {
  readonly minBlockBytes: number;
  readonly preferredBlockBytes: number;
  readonly maxBlockBytes: number;
}

export function encodeBlockSizes(sizes: BlockSizes): Buffer {
  const data = Buffer.alloc(12);
  data.writeUInt32BE(sizes.minBlockBytes, 0);
  data.writeUInt32BE(sizes.preferredBlockBytes, 4);
  data.writeUInt32BE(sizes.maxBlockBytes, 8);
  return encodeInfo(INFO.BLOCK_SIZE, data);
}

/** One export of a LIST reply. */
export function encodeServer(name: string, description: string): Buffer {
  const text = Buffer.from(name);
  const head = Buffer.alloc(4);
  head.writeUInt32BE(text.byteLength);
  return Buffer.concat([head, text, Buffer.from(description)]);
}

export function encodeContext(id: number, name: string): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt32BE(id);
  return Buffer.concat([head, Buffer.from(name)]);
}
