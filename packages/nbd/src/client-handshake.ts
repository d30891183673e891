// Client side of the handshake: greeting, structured replies, metadata contexts, GO. The server is not
// trusted: every length is bounded, every reply must belong to the option that was sent.
import { NbdOptionError, NbdProtocolError, replyName } from './errors.ts';
import { CHUNK_BYTES_MAX, OPTION_REPLIES_MAX, PAYLOAD_BYTES_MAX } from './limits.ts';
import type { SelectedContext } from './meta-context.ts';
import {
  type BlockSizes,
  decodeString,
  encodeContextRequest,
  encodeInfoRequest,
  encodeOption,
} from './option-codec.ts';
import {
  EXPORT_NAME_PADDING_BYTES,
  EXPORT_NAME_REPLY_BYTES,
  GREETING_BYTES,
  GREETING_MAGIC,
  HANDSHAKE_FLAG,
  INFO,
  OPTION,
  OPTION_MAGIC,
  OPTION_REPLY_HEADER_BYTES,
  OPTION_REPLY_MAGIC,
  REPLY,
  REPLY_ERROR_BIT,
} from './protocol.ts';

/** The connection as the handshake sees it. */
export interface HandshakeChannel {
  /** Exactly `bytes` bytes; rejects when the connection ends before. */
  read(bytes: number): Promise<Buffer>;
  send(bytes: Buffer): void;
}

/** What the server announced. */
export interface Announcement extends BlockSizes {
  readonly sizeBytes: number;
  readonly flags: number;
  readonly structured: boolean;
  readonly contexts: readonly SelectedContext[];
}

interface OptionReply {
  readonly type: number;
  readonly data: Buffer;
}

const EMPTY = Buffer.alloc(0);

/**
 * Negotiates `exportName` with those of `contexts` that the server offers.
 * @throws NbdOptionError when the server refuses, NbdProtocolError when it breaks the protocol.
 */
export async function negotiate(
  channel: HandshakeChannel,
  exportName: string,
  contexts: readonly string[],
): Promise<Announcement> {
  const greeting = await channel.read(GREETING_BYTES);
  if (greeting.readBigUInt64BE(0) !== GREETING_MAGIC || greeting.readBigUInt64BE(8) !== OPTION_MAGIC) {
    throw new NbdProtocolError('the peer is no newstyle NBD server: its greeting is wrong');
  }
  const offered = greeting.readUInt16BE(16);
  const flags = offered & (HANDSHAKE_FLAG.FIXED_NEWSTYLE | HANDSHAKE_FLAG.NO_ZEROES);
  const clientFlags = Buffer.alloc(4);
  clientFlags.writeUInt32BE(flags);
  channel.send(clientFlags);
  if ((flags & HANDSHAKE_FLAG.FIXED_NEWSTYLE) === 0) return exportByName(channel, exportName, flags, false);

  const structured = (await tryOption(channel, OPTION.STRUCTURED_REPLY, EMPTY)) !== undefined;
  const selected = structured && contexts.length > 0 ? await setContexts(channel, exportName, contexts) : [];
  const types = [INFO.BLOCK_SIZE];
  const replies = await tryOption(channel, OPTION.GO, encodeInfoRequest({ exportName, types }));
  if (replies === undefined) return exportByName(channel, exportName, flags, structured);
  return { ...parseInfo(replies), structured, contexts: selected };
}

async function exportByName(
  channel: HandshakeChannel,
  exportName: string,
  flags: number,
  structured: boolean,
): Promise<Announcement> {
  channel.send(encodeOption(OPTION.EXPORT_NAME, Buffer.from(exportName)));
  const reply = await channel.read(EXPORT_NAME_REPLY_BYTES);
  if ((flags & HANDSHAKE_FLAG.NO_ZEROES) === 0) await channel.read(EXPORT_NAME_PADDING_BYTES);
  return { ...parseSize(reply), ...DEFAULT_SIZES, structured, contexts: [] };
}

/** What holds where a server announces no block sizes (section "Block size constraints"). */
const DEFAULT_SIZES: BlockSizes = {
  minBlockBytes: 1,
  preferredBlockBytes: 4096,
  maxBlockBytes: PAYLOAD_BYTES_MAX,
};

/** The replies before ACK; undefined when the server does not know the option. */
async function tryOption(
  channel: HandshakeChannel,
  option: number,
  data: Buffer,
): Promise<OptionReply[] | undefined> {
  channel.send(encodeOption(option, data));
  const replies: OptionReply[] = [];
  let bytes = 0;
  for (;;) {
    const head = await channel.read(OPTION_REPLY_HEADER_BYTES);
    const type = head.readUInt32BE(12);
    const length = head.readUInt32BE(16);
    if (head.readBigUInt64BE(0) !== OPTION_REPLY_MAGIC || head.readUInt32BE(8) !== option) {
      throw new NbdProtocolError(`the server's reply does not belong to option ${option}`);
    }
    bytes += length;
    if (bytes > CHUNK_BYTES_MAX || replies.length >= OPTION_REPLIES_MAX) {
      throw new NbdProtocolError(`the server's replies to option ${option} are too long`);
    }
    const content = length === 0 ? EMPTY : await channel.read(length);
    if (type === REPLY.ACK) return replies;
    if (type === REPLY.ERR_UNSUP) return undefined;
    if (type >= REPLY_ERROR_BIT) {
      const name = replyName(type);
      const detail = content.byteLength > 0 ? `: ${content.toString('utf8', 0, 512)}` : '';
      throw new NbdOptionError(name, `the server refused option ${option} with ${name}${detail}`);
    }
    replies.push({ type, data: content });
  }
}

async function setContexts(
  channel: HandshakeChannel,
  exportName: string,
  queries: readonly string[],
): Promise<SelectedContext[]> {
  const data = encodeContextRequest({ exportName, queries });
  const replies = (await tryOption(channel, OPTION.SET_META_CONTEXT, data)) ?? [];
  const selected: SelectedContext[] = [];
  for (const reply of replies) {
    if (reply.type !== REPLY.META_CONTEXT || reply.data.byteLength < 4) {
      throw new NbdProtocolError('the server answered SET_META_CONTEXT with something else');
    }
    const id = reply.data.readUInt32BE(0);
    const name = decodeString(reply.data.subarray(4));
    if (name === undefined || !queries.includes(name) || selected.some(other => other.id === id)) {
      throw new NbdProtocolError(
        'the server selected a metadata context that was not asked for, or one id twice',
      );
    }
    selected.push({ id, name });
  }
  return selected;
}

function parseInfo(replies: readonly OptionReply[]): BlockSizes & { sizeBytes: number; flags: number } {
  let size: { sizeBytes: number; flags: number } | undefined;
  let sizes = DEFAULT_SIZES;
  for (const { type, data } of replies) {
    if (type !== REPLY.INFO || data.byteLength < 2) continue;
    const info = data.readUInt16BE(0);
    if (info === INFO.EXPORT && data.byteLength === 2 + EXPORT_NAME_REPLY_BYTES)
      size = parseSize(data.subarray(2));
    if (info === INFO.BLOCK_SIZE && data.byteLength === 14) sizes = parseBlockSizes(data);
  }
  if (size === undefined) throw new NbdProtocolError('the server did not say how large the export is');
  return { ...size, ...sizes };
}

function parseSize(data: Buffer): { sizeBytes: number; flags: number } {
  const size = data.readBigUInt64BE(0);
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new NbdProtocolError(`the server announces an export of ${size} bytes, more than can be addressed`);
  }
  return { sizeBytes: Number(size), flags: data.readUInt16BE(8) };
}

function parseBlockSizes(data: Buffer): BlockSizes {
  const minBlockBytes = data.readUInt32BE(2);
  const preferredBlockBytes = data.readUInt32BE(6);
  const max = data.readUInt32BE(10);
  const ordered = minBlockBytes > 0 && minBlockBytes <= preferredBlockBytes && minBlockBytes <= max;
  if (!ordered || minBlockBytes > 65_536 || (minBlockBytes & (minBlockBytes - 1)) !== 0) {
    throw new NbdProtocolError(`the server announces impossible block sizes ${minBlockBytes}, ${max}`);
  }
  // Requests are split at this size, so it has to be a multiple of the minimum.
  const capped = Math.min(max, PAYLOAD_BYTES_MAX);
  return { minBlockBytes, preferredBlockBytes, maxBlockBytes: capped - (capped % minBlockBytes) };
}
