// The NBD client: one connection to one export, many requests in flight. Requests longer than the server
// takes are split; when the connection breaks, every pending request rejects with the reason.
import { type NetConnectOpts, connect as netConnect, type Socket } from 'node:net';
import { BufferPool } from './buffer-pool.ts';
import { type Announcement, negotiate } from './client-handshake.ts';
import { Pipeline, type RequestInit } from './client-pipeline.ts';
import type { StatusReply } from './client-request.ts';
import { NbdError, NbdOptionError, NbdProtocolError } from './errors.ts';
import { HandshakeReader } from './handshake-reader.ts';
import { type ByteReceiver, onreadFor } from './input.ts';
import {
  CLIENT_RANGE_BYTES_MAX,
  CLIENT_REQUESTS_DEFAULT,
  CONNECT_TIMEOUT_MS,
  GOODBYE_TIMEOUT_MS,
  POOL_IDLE_BYTES_MAX,
} from './limits.ts';
import { encodeOption } from './option-codec.ts';
import { COMMAND, COMMAND_FLAG, OPTION, TRANSMISSION_FLAG } from './protocol.ts';
import { type NbdTarget, parseNbdUri } from './uri.ts';

export type NbdConnectTarget = { readonly uri: string } | NbdTarget;

export interface NbdConnectOptions {
  /** Metadata contexts wanted; `contexts` of the client says which of them the server has. */
  contexts?: readonly string[];
  /** Requests in flight; further ones wait in the client. */
  requestsMax?: number;
  /** Connection and handshake together. */
  connectTimeoutMs?: number;
  /**
   * A server that owes replies and has sent nothing for this long is taken for gone: the connection is lost. Default
   * 0: it may take for ever.
   */
  stallTimeoutMs?: number;
  /** Aborts connecting, and destroys the client later. */
  signal?: AbortSignal;
}

/** A run of bytes with one status. */
export interface NbdExtent {
  readonly offset: number;
  readonly length: number;
  readonly flags: number;
}

export class NbdClient {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly multiConn: boolean;
  readonly canFlush: boolean;
  readonly canFua: boolean;
  readonly canTrim: boolean;
  readonly canWriteZeroes: boolean;
  readonly canFastZero: boolean;
  readonly canCache: boolean;
  readonly minBlockBytes: number;
  readonly preferredBlockBytes: number;
  /** Requests with data are split at this length. */
  readonly maxBlockBytes: number;
  /** The server's contexts among those asked for. */
  readonly contexts: readonly string[];
  /** Resolves when the connection is closed, with the reason unless it was `disconnect`. Never rejects. */
  readonly closed: Promise<Error | undefined>;
  readonly #socket: Socket;
  readonly #announcement: Announcement;
  readonly #pipeline: Pipeline;
  #disconnecting = false;
  #resolveClosed!: (reason: Error | undefined) => void;

  /**
   * Connects and negotiates. Rejects with NbdOptionError when the server refuses (`ERR_UNKNOWN`: no such
   * export), NbdProtocolError when it misbehaves or the time is up, or the system's error.
   */
  static async connect(target: NbdConnectTarget, options: NbdConnectOptions = {}): Promise<NbdClient> {
    options.signal?.throwIfAborted();
    const where = 'uri' in target ? parseNbdUri(target.uri) : target;
    const pool = new BufferPool(POOL_IDLE_BYTES_MAX);
    const reader = new HandshakeReader();
    const receiver: { current: ByteReceiver } = { current: reader };
    const forward: ByteReceiver = {
      nextBuffer: () => receiver.current.nextBuffer(),
      receive: (buffer, length) => receiver.current.receive(buffer, length),
    };
    const address = 'path' in where ? { path: where.path } : { host: where.host, port: where.port };
    const socket = netConnect({ ...address, noDelay: true, onread: onreadFor(forward) } as NetConnectOpts);
    const name = 'path' in where ? where.path : `${where.host}:${where.port}`;
    const giveUp = (why: Error): void => {
      reader.fail(why);
      socket.destroy();
    };
    const onAbort = (): void => giveUp(new NbdProtocolError(`connecting to ${name} was aborted`));
    const timeoutMs = options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
    const timer = setTimeout(() => {
      giveUp(new NbdProtocolError(`${name} did not finish the handshake within ${timeoutMs} ms`));
    }, timeoutMs);
    options.signal?.addEventListener('abort', onAbort, { once: true });
    socket.on('error', error => reader.fail(error));
    socket.on('close', () =>
      reader.fail(new NbdProtocolError(`${name} closed the connection in the handshake`)),
    );
    try {
      const channel = {
        read: (bytes: number) => reader.read(bytes),
        send: (bytes: Buffer) => socket.write(bytes),
      };
      const announcement = await negotiate(channel, where.exportName, options.contexts ?? []);
      if (reader.bufferedBytes > 0)
        throw new NbdProtocolError('the server sent more than the handshake holds');
      const client = new NbdClient(socket, announcement, pool, options, receiver);
      options.signal?.removeEventListener('abort', onAbort);
      return client;
    } catch (error) {
      options.signal?.removeEventListener('abort', onAbort);
      // A refused option leaves the session intact: the protocol wants a goodbye then.
      if (error instanceof NbdOptionError) socket.write(encodeOption(OPTION.ABORT, Buffer.alloc(0)));
      socket.destroySoon();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  private constructor(
    socket: Socket,
    announcement: Announcement,
    pool: BufferPool,
    options: NbdConnectOptions,
    receiver: { current: ByteReceiver },
  ) {
    this.#socket = socket;
    this.#announcement = announcement;
    const has = (flag: number): boolean => (announcement.flags & flag) !== 0;
    this.sizeBytes = announcement.sizeBytes;
    this.readOnly = has(TRANSMISSION_FLAG.READ_ONLY);
    this.multiConn = has(TRANSMISSION_FLAG.CAN_MULTI_CONN);
    this.canFlush = has(TRANSMISSION_FLAG.SEND_FLUSH);
    this.canFua = has(TRANSMISSION_FLAG.SEND_FUA);
    this.canTrim = has(TRANSMISSION_FLAG.SEND_TRIM);
    this.canWriteZeroes = has(TRANSMISSION_FLAG.SEND_WRITE_ZEROES);
    this.canFastZero = has(TRANSMISSION_FLAG.SEND_FAST_ZERO);
    this.canCache = has(TRANSMISSION_FLAG.SEND_CACHE);
    this.minBlockBytes = announcement.minBlockBytes;
    this.preferredBlockBytes = announcement.preferredBlockBytes;
    this.maxBlockBytes = announcement.maxBlockBytes;
    this.contexts = announcement.contexts.map(context => context.name);
    this.closed = new Promise(resolve => {
      this.#resolveClosed = resolve;
    });
    const requestsMax = options.requestsMax ?? CLIENT_REQUESTS_DEFAULT;
    this.#pipeline = new Pipeline(socket, pool, {
      requestsMax,
      stallTimeoutMs: options.stallTimeoutMs ?? 0,
      structured: announcement.structured,
    });
    receiver.current = this.#pipeline;
    socket.removeAllListeners('error').removeAllListeners('close');
    socket.on('error', error => this.#pipeline.fail(error));
    socket.on('close', () => this.#onClose());
    const onAbort = (): void => this.destroy(new NbdProtocolError('the NBD connection was aborted'));
    options.signal?.addEventListener('abort', onAbort, { once: true });
    void this.closed.then(() => options.signal?.removeEventListener('abort', onAbort));
  }

  /** Fills `buffer` from `offset` on. On rejection its content is undefined. */
  read(offset: number, buffer: Buffer): Promise<void> {
    return this.#split(COMMAND.READ, 0, offset, buffer.byteLength, this.maxBlockBytes, buffer);
  }

  /** Writes `buffer`, which must not change until then. With `fua` it is durable afterwards. */
  async write(offset: number, buffer: Buffer, options: { readonly fua?: boolean } = {}): Promise<void> {
    const flags = this.#fuaFlag(options.fua);
    await this.#split(COMMAND.WRITE, flags, offset, buffer.byteLength, this.maxBlockBytes, buffer);
    await this.#flushInstead(options.fua);
  }

  /** Zeroes a range; `mayUnmap` (default) allows a hole. Without WRITE_ZEROES at the server it is ENOTSUP. */
  async writeZeroes(
    offset: number,
    length: number,
    options: { readonly mayUnmap?: boolean; readonly fua?: boolean; readonly fast?: boolean } = {},
  ): Promise<void> {
    if (!this.canWriteZeroes && !this.readOnly) throw unsupported('WRITE_ZEROES');
    if (options.fast === true && !this.canFastZero) throw unsupported('fast WRITE_ZEROES');
    let flags = this.#fuaFlag(options.fua);
    if (options.mayUnmap === false) flags |= COMMAND_FLAG.NO_HOLE;
    if (options.fast === true) flags |= COMMAND_FLAG.FAST_ZERO;
    await this.#split(COMMAND.WRITE_ZEROES, flags, offset, length, CLIENT_RANGE_BYTES_MAX);
    await this.#flushInstead(options.fua);
  }

  /** Gives a range up. A hint: where the server does not know it, nothing happens. */
  async trim(offset: number, length: number, options: { readonly fua?: boolean } = {}): Promise<void> {
    if (!this.canTrim && !this.readOnly) return;
    const flags = this.#fuaFlag(options.fua);
    await this.#split(COMMAND.TRIM, flags, offset, length, CLIENT_RANGE_BYTES_MAX);
    await this.#flushInstead(options.fua);
  }

  /** Every write that resolved before is durable afterwards, as far as the server offers that. */
  async flush(): Promise<void> {
    if (!this.canFlush) return;
    await this.#request({ command: COMMAND.FLUSH, flags: 0, offset: 0, length: 0, buffer: undefined });
  }

  /** Says that the range will soon be read. A hint, as `trim`. */
  async cache(offset: number, length: number): Promise<void> {
    if (this.canCache) await this.#split(COMMAND.CACHE, 0, offset, length, this.maxBlockBytes);
  }

  /** Extents from `offset` on without a gap, at least one, never past the range; may stop before its end. */
  async blockStatus(context: string, offset: number, length: number): Promise<NbdExtent[]> {
    const id = this.#announcement.contexts.find(selected => selected.name === context)?.id;
    if (id === undefined) {
      throw new NbdError('EINVAL', `context ${context} was not negotiated: name it when connecting`);
    }
    this.#checkRange(offset, length);
    if (length === 0) return [];
    const bytes = Math.min(length, CLIENT_RANGE_BYTES_MAX);
    const init = { command: COMMAND.BLOCK_STATUS, flags: 0, offset, length: bytes, buffer: undefined };
    const extents = (await this.#request(init))?.get(id);
    if (extents === undefined) throw new NbdProtocolError(`the server left out context ${context}`);
    const result: NbdExtent[] = [];
    let at = offset;
    for (const extent of extents) {
      if (at >= offset + length) break;
      const size = Math.min(extent.length, offset + length - at);
      result.push({ offset: at, length: size, flags: extent.flags });
      at += size;
    }
    return result;
  }

  /** All extents of a range, asked for piece by piece. */
  async *extents(context: string, offset: number, length: number): AsyncGenerator<NbdExtent> {
    let at = offset;
    while (at < offset + length) {
      for (const extent of await this.blockStatus(context, at, offset + length - at)) {
        yield extent;
        at = extent.offset + extent.length;
      }
    }
  }

  /**
   * Waits for pending requests, says goodbye, closes; a server that does not close its side in time is left.
   * New requests are refused at once.
   */
  async disconnect(): Promise<void> {
    if (!this.#disconnecting) {
      this.#disconnecting = true;
      await this.#pipeline.whenIdle();
      if (this.#pipeline.failure === undefined) {
        this.#pipeline.sayGoodbye();
        this.#socket.end();
        const timer = setTimeout(() => this.#socket.destroy(), GOODBYE_TIMEOUT_MS);
        void this.closed.then(() => clearTimeout(timer));
      }
    }
    await this.closed;
  }

  /** Closes at once; every pending request rejects with `reason`. */
  destroy(reason: Error = new NbdProtocolError('the NBD connection was destroyed')): void {
    this.#pipeline.fail(reason);
  }

  #fuaFlag(fua: boolean | undefined): number {
    return fua === true && this.canFua ? COMMAND_FLAG.FUA : 0;
  }

  async #flushInstead(fua: boolean | undefined): Promise<void> {
    if (fua === true && !this.canFua) await this.flush();
  }

  #checkRange(offset: number, length: number): void {
    const sound = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
    if (!sound || !Number.isSafeInteger(offset + length)) {
      throw new NbdError('EINVAL', `range of ${length} bytes at ${offset} is no range`);
    }
  }

  async #split(
    command: number,
    flags: number,
    offset: number,
    length: number,
    partBytes: number,
    buffer?: Buffer,
  ): Promise<void> {
    this.#checkRange(offset, length);
    if (length === 0) return;
    if (length <= partBytes) {
      await this.#request({ command, flags, offset, length, buffer });
      return;
    }
    const parts: Promise<unknown>[] = [];
    for (let at = 0; at < length; at += partBytes) {
      const bytes = Math.min(partBytes, length - at);
      const part = buffer?.subarray(at, at + bytes);
      parts.push(this.#request({ command, flags, offset: offset + at, length: bytes, buffer: part }));
    }
    // All of them, so that no part still uses the buffer after a rejection.
    const results = await Promise.allSettled(parts);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  #request(init: RequestInit): Promise<StatusReply | undefined> {
    if (this.#disconnecting) return Promise.reject(new NbdProtocolError('the NBD client is disconnecting'));
    return this.#pipeline.request(init);
  }

  #onClose(): void {
    const polite = this.#pipeline.saidGoodbye && this.#pipeline.failure === undefined;
    this.#pipeline.fail(new NbdProtocolError('the NBD server closed the connection'));
    this.#resolveClosed(polite ? undefined : this.#pipeline.failure);
  }
}

function unsupported(what: string): NbdError {
  return new NbdError('ENOTSUP', `the server does not offer ${what}`);
}
