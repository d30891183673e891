// Requests of a client on their way: lays them out, keeps those in flight in slots and the others in line, and
// hands each its reply. Owned by `NbdClient`, which checks and splits before.
import type { Socket } from 'node:net';
import type { BufferPool } from './buffer-pool.ts';
import { ClientReplies, type RepliesHost } from './client-replies.ts';
import { ClientRequest, type StatusReply } from './client-request.ts';
import { NbdError, NbdProtocolError } from './errors.ts';
import type { ByteReceiver } from './input.ts';
import { ARENA_ITEM_BYTES_MAX, CLIENT_WAITING_MAX } from './limits.ts';
import { Output } from './output.ts';
import { COMMAND, REQUEST_BYTES, REQUEST_MAGIC } from './protocol.ts';

/** How finely silence is measured. */
const LOOKS_PER_STALL = 8;

export type RequestInit = Pick<ClientRequest, 'command' | 'flags' | 'offset' | 'length' | 'buffer'>;

export interface PipelineOptions {
  readonly requestsMax: number;
  /** How long a server may owe replies without a word; 0: for ever. */
  readonly stallTimeoutMs: number;
  readonly structured: boolean;
}

export class Pipeline implements ByteReceiver, RepliesHost {
  readonly #output: Output;
  /** In flight, by the low half of the cookie; the high half counts, so that no late reply finds another. */
  readonly #slots: (ClientRequest | undefined)[] = [];
  readonly #generations: number[] = [];
  readonly #free: number[] = [];
  readonly #waiting: ClientRequest[] = [];
  #waitingStart = 0;
  readonly #replies: ClientReplies;
  readonly #socket: Socket;
  readonly structured: boolean;
  #failure: Error | undefined;
  #saidGoodbye = false;
  #idle: (() => void) | undefined;
  #watch: NodeJS.Timeout | undefined;
  /** Looks since the server was last heard of, with replies owed all the while. */
  #silentLooks = 0;

  constructor(socket: Socket, pool: BufferPool, options: PipelineOptions) {
    this.#socket = socket;
    this.structured = options.structured;
    for (let slot = Math.max(1, options.requestsMax) - 1; slot >= 0; slot--) {
      this.#free.push(slot);
      this.#generations[slot] = 0;
    }
    this.#output = new Output(socket, pool, () => undefined);
    this.#replies = new ClientReplies(this, pool);
    const { stallTimeoutMs } = options;
    if (stallTimeoutMs === 0) return;
    this.#watch = setInterval(() => this.#look(stallTimeoutMs), stallTimeoutMs / LOOKS_PER_STALL).unref();
  }

  /** Counts looks and reads no clock: what every reply costs is one assignment. */
  #look(stallTimeoutMs: number): void {
    if (this.#pendingCount === 0) this.#silentLooks = 0;
    else if (++this.#silentLooks > LOOKS_PER_STALL) {
      const text = `the server owes ${this.#pendingCount} replies and has sent nothing for ${stallTimeoutMs} ms`;
      this.fail(new NbdProtocolError(text));
    }
  }

  /** Why nothing can be sent any more. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  get saidGoodbye(): boolean {
    return this.#saidGoodbye;
  }

  /** For the reply reader. */
  find(cookieHigh: number, cookieLow: number): ClientRequest | undefined {
    return this.#generations[cookieLow] === cookieHigh ? this.#slots[cookieLow] : undefined;
  }

  /** Resolves when no request is pending, because of a failure too. */
  whenIdle(): Promise<void> {
    if (this.#failure !== undefined || this.#pendingCount === 0) return Promise.resolve();
    return new Promise(resolve => {
      this.#idle = resolve;
    });
  }

  /** Sends DISC; there is no reply. */
  sayGoodbye(): void {
    this.#saidGoodbye = true;
    this.#layOutHead(COMMAND.DISC, 0, 0, 0, 0, 0);
    this.#output.flush();
  }

  /** Resolves with the last reply; BLOCK_STATUS with its extents. Rejects with NbdError or the failure. */
  request(init: RequestInit): Promise<StatusReply | undefined> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) reject(this.#failure);
      else {
        const request = new ClientRequest(init, resolve, reject);
        const slot = this.#free.pop();
        if (slot !== undefined) this.#start(request, slot);
        else if (this.#waiting.length - this.#waitingStart < CLIENT_WAITING_MAX) this.#waiting.push(request);
        else
          reject(new NbdError('ENOMEM', `more than ${CLIENT_WAITING_MAX} requests wait: await some first`));
      }
    });
  }

  #start(request: ClientRequest, slot: number): void {
    this.#slots[slot] = request;
    const { command, flags, offset, length, buffer } = request;
    this.#layOutHead(command, flags, slot, this.#generations[slot]!, offset, length);
    if (command === COMMAND.WRITE && buffer !== undefined) this.#layOutData(buffer);
    this.#output.flushSoon();
  }

  #layOutHead(
    command: number,
    flags: number,
    slot: number,
    generation: number,
    offset: number,
    length: number,
  ): void {
    const head = this.#output.reserve(REQUEST_BYTES);
    let at = head.writeUInt32BE(REQUEST_MAGIC, this.#output.at);
    at = head.writeUInt16BE(flags, at);
    at = head.writeUInt16BE(command, at);
    at = head.writeUInt32BE(generation, at);
    at = head.writeUInt32BE(slot, at);
    at = head.writeUInt32BE(Math.floor(offset / 2 ** 32), at);
    at = head.writeUInt32BE(offset % 2 ** 32, at);
    head.writeUInt32BE(length, at);
    this.#output.commit(REQUEST_BYTES);
  }

  #layOutData(buffer: Buffer): void {
    if (buffer.byteLength > ARENA_ITEM_BYTES_MAX) {
      this.#output.push(buffer, () => undefined);
      return;
    }
    const arena = this.#output.reserve(buffer.byteLength);
    buffer.copy(arena, this.#output.at);
    this.#output.commit(buffer.byteLength);
  }

  nextBuffer(): Buffer {
    return this.#replies.nextBuffer();
  }

  receive(buffer: Buffer, length: number): void {
    if (this.#failure !== undefined) return;
    this.#silentLooks = 0;
    try {
      this.#replies.receive(buffer, length);
    } catch (error) {
      this.fail(error instanceof Error ? error : new NbdProtocolError(String(error)));
    }
  }

  /** For the reply reader. */
  complete(request: ClientRequest, slot: number): void {
    this.#slots[slot] = undefined;
    this.#generations[slot] = (this.#generations[slot]! + 1) >>> 0;
    const short = request.command === COMMAND.READ && request.error === undefined && !request.complete;
    if (short) throw this.#shortRead(request);
    if (request.error === undefined) request.resolve(request.status);
    else request.reject(request.error);
    const next = this.#waiting[this.#waitingStart];
    if (next === undefined) {
      this.#free.push(slot);
      if (this.#pendingCount === 0) this.#idle?.();
      return;
    }
    if (++this.#waitingStart > 1024) {
      this.#waiting.splice(0, this.#waitingStart);
      this.#waitingStart = 0;
    }
    this.#start(next, slot);
  }

  #shortRead(request: ClientRequest): Error {
    const error = new NbdProtocolError(`the server sent only parts of ${request.length} bytes read`);
    request.reject(error);
    return error;
  }

  get #pendingCount(): number {
    return this.#generations.length - this.#free.length + this.#waiting.length - this.#waitingStart;
  }

  /** Every pending and later request rejects with `reason`; the socket is destroyed. Only the first counts. */
  fail(reason: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    clearInterval(this.#watch);
    this.#output.close();
    this.#socket.destroy();
    const pending = [...this.#slots, ...this.#waiting.slice(this.#waitingStart)];
    this.#slots.fill(undefined);
    this.#waiting.length = 0;
    this.#waitingStart = 0;
    for (const request of pending) request?.reject(reason);
    this.#idle?.();
  }
}
