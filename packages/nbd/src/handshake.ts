// Server side of the handshake: greets, answers options, and ends with a session or a closed connection.
// Sections "Newstyle negotiation" to "Option types". It owns no socket: bytes come in, replies go out.
import type { NbdExport } from './export.ts';
import { OPTION_BYTES_MAX, PAYLOAD_BYTES_MAX } from './limits.ts';
import { listContexts, type SelectedContext, selectContexts } from './meta-context.ts';
import * as codec from './option-codec.ts';
import {
  EXPORT_NAME_PADDING_BYTES,
  GREETING_BYTES,
  GREETING_MAGIC,
  HANDSHAKE_FLAG,
  INFO,
  OPTION,
  OPTION_HEADER_BYTES,
  OPTION_MAGIC,
  REPLY,
  TRANSMISSION_FLAG,
} from './protocol.ts';

/** The exports a handshake may see; they can change while it runs. */
export interface ExportDirectory {
  find(name: string): NbdExport | undefined;
  /** Exports that LIST shows. */
  listed(): readonly NbdExport[];
  /** Every option but ABORT is refused. */
  readonly closing: boolean;
}

/** What both sides agreed on. */
export interface Session {
  readonly target: NbdExport;
  readonly structured: boolean;
  readonly contexts: readonly SelectedContext[];
}

/** How a handshake ended; `violation` says what the client did wrong, `rest` is what it already sent after. */
export type HandshakeEnd =
  | { readonly session: Session; readonly rest: Buffer }
  | { readonly session: undefined; readonly violation: string | undefined };

const EMPTY = Buffer.alloc(0);
const CLIENT_FLAGS_KNOWN = HANDSHAKE_FLAG.FIXED_NEWSTYLE | HANDSHAKE_FLAG.NO_ZEROES;

/** Flags that an export is announced with. */
function transmissionFlags(target: NbdExport, structured: boolean): number {
  let flags: number = TRANSMISSION_FLAG.HAS_FLAGS | TRANSMISSION_FLAG.SEND_FLUSH | TRANSMISSION_FLAG.SEND_FUA;
  flags |= TRANSMISSION_FLAG.SEND_CACHE;
  if (target.readOnly) flags |= TRANSMISSION_FLAG.READ_ONLY;
  else {
    flags |= TRANSMISSION_FLAG.SEND_TRIM | TRANSMISSION_FLAG.SEND_WRITE_ZEROES;
    flags |= TRANSMISSION_FLAG.SEND_FAST_ZERO;
  }
  if (structured) flags |= TRANSMISSION_FLAG.SEND_DF;
  if (target.multiConn) flags |= TRANSMISSION_FLAG.CAN_MULTI_CONN;
  return flags;
}

/** Block sizes that an export is announced with. */
function announcedBlockSizes(target: NbdExport): codec.BlockSizes {
  return {
    minBlockBytes: target.minBlockBytes,
    preferredBlockBytes: target.preferredBlockBytes,
    maxBlockBytes: Math.min(target.maxBlockBytes, PAYLOAD_BYTES_MAX),
  };
}

export class Handshake {
  readonly #directory: ExportDirectory;
  readonly #send: (bytes: Buffer) => void;
  readonly #isFlooded: () => boolean;
  /** Bytes that do not make a whole message yet: at most one option. */
  #input: Buffer = EMPTY;
  /** Data of a refused option still to be passed over. */
  #skipBytes = 0;
  #clientFlags: number | undefined;
  #structured = false;
  #contexts: { readonly exportName: string; readonly selected: SelectedContext[] } | undefined;

  /** `isFlooded`: more replies wait for the client than it may leave unread. */
  constructor(directory: ExportDirectory, send: (bytes: Buffer) => void, isFlooded = () => false) {
    this.#directory = directory;
    this.#send = send;
    this.#isFlooded = isFlooded;
  }

  /** Sends the greeting; must be called once, first. */
  start(): void {
    const greeting = Buffer.alloc(GREETING_BYTES);
    greeting.writeBigUInt64BE(GREETING_MAGIC, 0);
    greeting.writeBigUInt64BE(OPTION_MAGIC, 8);
    greeting.writeUInt16BE(HANDSHAKE_FLAG.FIXED_NEWSTYLE | HANDSHAKE_FLAG.NO_ZEROES, 16);
    this.#send(greeting);
  }

  /** Takes bytes from the client; returns how the handshake ended, or undefined while it goes on. */
  receive(bytes: Buffer): HandshakeEnd | undefined {
    this.#input = this.#input.byteLength === 0 ? Buffer.from(bytes) : Buffer.concat([this.#input, bytes]);
    if (this.#clientFlags === undefined) {
      if (this.#input.byteLength < 4) return undefined;
      this.#clientFlags = this.#take(4).readUInt32BE(0);
      if ((this.#clientFlags & ~CLIENT_FLAGS_KNOWN) !== 0) {
        return violation(`unknown client flags 0x${this.#clientFlags.toString(16)}`);
      }
    }
    for (;;) {
      if (this.#skipBytes > 0) {
        this.#skipBytes -= this.#take(Math.min(this.#skipBytes, this.#input.byteLength)).byteLength;
      }
      if (this.#skipBytes > 0 || this.#input.byteLength < OPTION_HEADER_BYTES) return undefined;
      if (this.#input.readBigUInt64BE(0) !== OPTION_MAGIC) return violation('option without its magic');
      const option = this.#input.readUInt32BE(8);
      const length = this.#input.readUInt32BE(12);
      if (length > OPTION_BYTES_MAX) {
        if (option === OPTION.EXPORT_NAME) return violation(`export name of ${length} bytes`);
        this.#take(OPTION_HEADER_BYTES);
        this.#skipBytes = length;
        this.#refuse(
          option,
          REPLY.ERR_TOO_BIG,
          `option data of ${length} bytes, at most ${OPTION_BYTES_MAX}`,
        );
        continue;
      }
      if (this.#input.byteLength < OPTION_HEADER_BYTES + length) return undefined;
      const data = this.#take(OPTION_HEADER_BYTES + length).subarray(OPTION_HEADER_BYTES);
      const end = this.#answer(option, data);
      if (end !== undefined) return end;
      // Looked at after each option: a few bytes can ask for a long list, thousands of times in one read.
      if (this.#isFlooded()) return violation('client does not read replies');
    }
  }

  #take(bytes: number): Buffer {
    const taken = this.#input.subarray(0, bytes);
    this.#input = this.#input.subarray(bytes);
    return taken;
  }

  #answer(option: number, data: Buffer): HandshakeEnd | undefined {
    if (option === OPTION.EXPORT_NAME) return this.#exportName(data);
    if (option === OPTION.ABORT) {
      this.#acknowledge(option);
      return violation(undefined);
    }
    if (this.#directory.closing) {
      this.#refuse(option, REPLY.ERR_SHUTDOWN, 'server is shutting down');
      return undefined;
    }
    switch (option) {
      case OPTION.LIST:
        this.#list(data);
        return undefined;
      case OPTION.INFO:
      case OPTION.GO:
        return this.#info(option, data);
      case OPTION.STRUCTURED_REPLY:
        if (data.byteLength > 0) this.#refuse(option, REPLY.ERR_INVALID, 'STRUCTURED_REPLY takes no data');
        else {
          this.#structured = true;
          this.#acknowledge(option);
        }
        return undefined;
      case OPTION.LIST_META_CONTEXT:
      case OPTION.SET_META_CONTEXT:
        this.#metaContexts(option, data);
        return undefined;
      default:
        this.#refuse(option, REPLY.ERR_UNSUP, `option ${option} is not supported`);
        return undefined;
    }
  }

  #exportName(data: Buffer): HandshakeEnd {
    const name = codec.decodeString(data);
    const target = name === undefined ? undefined : this.#directory.find(name);
    if (target === undefined || this.#directory.closing) {
      return violation(`EXPORT_NAME asks for an unknown export (${data.byteLength} bytes)`);
    }
    this.#send(codec.encodeSizeAndFlags(target.sizeBytes, transmissionFlags(target, this.#structured)));
    if ((this.#clientFlags! & HANDSHAKE_FLAG.NO_ZEROES) === 0) {
      this.#send(Buffer.alloc(EXPORT_NAME_PADDING_BYTES));
    }
    return this.#begin(target);
  }

  #list(data: Buffer): void {
    if (data.byteLength > 0) {
      this.#refuse(OPTION.LIST, REPLY.ERR_INVALID, 'LIST takes no data');
      return;
    }
    for (const target of this.#directory.listed()) {
      this.#reply(OPTION.LIST, REPLY.SERVER, codec.encodeServer(target.name, target.description ?? ''));
    }
    this.#acknowledge(OPTION.LIST);
  }

  #info(option: number, data: Buffer): HandshakeEnd | undefined {
    const request = codec.decodeInfoRequest(data);
    if (request === undefined) {
      this.#refuse(option, REPLY.ERR_INVALID, 'malformed export name or information list');
      return undefined;
    }
    const target = this.#directory.find(request.exportName);
    if (target === undefined) {
      this.#refuse(option, REPLY.ERR_UNKNOWN, `export "${request.exportName}" is not present`);
      return undefined;
    }
    if (target.minBlockBytes > 1 && !request.types.includes(INFO.BLOCK_SIZE)) {
      const why = `export "${target.name}" takes requests aligned to ${target.minBlockBytes} bytes only`;
      this.#refuse(option, REPLY.ERR_BLOCK_SIZE_REQD, `${why}: ask for block sizes and keep to them`);
      return undefined;
    }
    const sizeAndFlags = codec.encodeSizeAndFlags(
      target.sizeBytes,
      transmissionFlags(target, this.#structured),
    );
    this.#reply(option, REPLY.INFO, codec.encodeInfo(INFO.EXPORT, sizeAndFlags));
    if (request.types.includes(INFO.NAME)) {
      this.#reply(option, REPLY.INFO, codec.encodeInfo(INFO.NAME, Buffer.from(target.name)));
    }
    if (request.types.includes(INFO.DESCRIPTION) && target.description !== undefined) {
      this.#reply(option, REPLY.INFO, codec.encodeInfo(INFO.DESCRIPTION, Buffer.from(target.description)));
    }
    this.#reply(option, REPLY.INFO, codec.encodeBlockSizes(announcedBlockSizes(target)));
    this.#acknowledge(option);
    return option === OPTION.GO ? this.#begin(target) : undefined;
  }

  #metaContexts(option: number, data: Buffer): void {
    const set = option === OPTION.SET_META_CONTEXT;
    if (set) this.#contexts = undefined;
    if (!this.#structured) {
      this.#refuse(option, REPLY.ERR_INVALID, 'structured replies must be negotiated first');
      return;
    }
    const request = codec.decodeContextRequest(data);
    if (request === undefined) {
      this.#refuse(option, REPLY.ERR_INVALID, 'malformed export name or context queries');
      return;
    }
    const target = this.#directory.find(request.exportName);
    if (target === undefined) {
      this.#refuse(option, REPLY.ERR_UNKNOWN, `export "${request.exportName}" is not present`);
      return;
    }
    if (set) {
      const selected = selectContexts(target.contexts, request.queries);
      this.#contexts = { exportName: target.name, selected };
      for (const { id, name } of selected) {
        this.#reply(option, REPLY.META_CONTEXT, codec.encodeContext(id, name));
      }
    } else {
      for (const name of listContexts(target.contexts, request.queries)) {
        this.#reply(option, REPLY.META_CONTEXT, codec.encodeContext(0, name));
      }
    }
    this.#acknowledge(option);
  }

  /** Contexts count only for the export they were selected for, as it is now. */
  #begin(target: NbdExport): HandshakeEnd {
    const selected = this.#contexts?.exportName === target.name ? this.#contexts.selected : [];
    const contexts = selected.filter(context => target.contexts.includes(context.name));
    return { session: { target, structured: this.#structured, contexts }, rest: this.#input };
  }

  #acknowledge(option: number): void {
    this.#reply(option, REPLY.ACK, EMPTY);
  }

  #refuse(option: number, reply: number, message: string): void {
    this.#reply(option, reply, Buffer.from(message));
  }

  #reply(option: number, reply: number, data: Buffer): void {
    this.#send(codec.encodeOptionReply(option, reply, data));
  }
}

function violation(reason: string | undefined): HandshakeEnd {
  return { session: undefined, violation: reason };
}
