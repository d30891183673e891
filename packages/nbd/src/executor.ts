// Calls the export for each request that passed the checks, and replies. Requests that complete on the spot
// cost no promise; the others are counted, so that the parser knows when to hold back.
import type { BufferPool } from './buffer-pool.ts';
import { ERRNO_MESSAGES, type NbdErrno, NbdError } from './errors.ts';
import type { NbdExport, Pending, StatusExtent } from './export.ts';
import type { Session } from './handshake.ts';
import type { Chunk } from './input.ts';
import { ARENA_ITEM_BYTES_MAX, CONNECTION_BYTES_MAX, OUTPUT_BYTES_MAX } from './limits.ts';
import { trimExtents } from './meta-context.ts';
import type { ArenaSlice } from './output.ts';
import { COMMAND, COMMAND_FLAG, ERRNO, REQUEST_BYTES } from './protocol.ts';
import type { ReplyWriter } from './reply.ts';
import { type Request, refusalMessage } from './request.ts';

/** What an executor needs of its surroundings. */
export interface ExecutorHost {
  readonly pool: BufferPool;
  readonly requestsMax: number;
  toErrno(error: unknown): NbdErrno;
  /** A request that had to wait has ended, and its reply is laid out. */
  ended(): void;
}

/** Memory that a request uses while its export works on it. */
type Holding = Chunk | ArenaSlice | Buffer | undefined;

export class Executor {
  readonly #host: ExecutorHost;
  readonly #session: Session;
  readonly #target: NbdExport;
  readonly #replies: ReplyWriter;
  #inFlight = 0;
  #inFlightBytes = 0;

  constructor(host: ExecutorHost, session: Session, replies: ReplyWriter) {
    this.#host = host;
    this.#session = session;
    this.#target = session.target;
    this.#replies = replies;
  }

  /** Requests that are with the export now. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** One more request may begin: neither waiting requests nor untaken replies have reached their bounds. */
  get mayAccept(): boolean {
    return (
      this.#inFlight < this.#host.requestsMax &&
      this.#inFlightBytes < CONNECTION_BYTES_MAX &&
      this.#replies.output.waitingBytes < OUTPUT_BYTES_MAX
    );
  }

  /** A WRITE with its data, which lies in `memory`: a chunk shared with others, or a pooled buffer of its own. */
  write(request: Request, data: Buffer, memory: Chunk | Buffer | undefined): void {
    try {
      const pending = this.#target.write(request.offset, data, (request.flags & COMMAND_FLAG.FUA) !== 0);
      if (pending !== undefined) {
        if (memory !== undefined && !Buffer.isBuffer(memory)) memory.hold();
        this.#wait(request, pending, memory);
        return;
      }
      this.#replies.done(request);
    } catch (error) {
      this.#fail(request, error);
    }
    if (Buffer.isBuffer(memory)) this.#host.pool.give(memory);
  }

  /** Any other command. `request` may be reused by the caller afterwards. */
  execute(request: Request): void {
    if (request.command === COMMAND.READ) {
      if (request.length === 0) this.#replies.doneEmptyRead(request);
      else if (request.length <= ARENA_ITEM_BYTES_MAX - REQUEST_BYTES) this.#readSmall(request);
      else this.#readLarge(request);
      return;
    }
    if (request.command === COMMAND.BLOCK_STATUS) {
      this.#blockStatus({ ...request });
      return;
    }
    try {
      const pending = this.#callWithoutData(request);
      if (pending === undefined) this.#replies.done(request);
      else this.#wait(request, pending, undefined);
    } catch (error) {
      this.#fail(request, error);
    }
  }

  #callWithoutData(request: Request): Pending {
    const { command, flags, offset, length } = request;
    const fua = (flags & COMMAND_FLAG.FUA) !== 0;
    if (command === COMMAND.FLUSH) return this.#target.flush();
    if (length === 0) return undefined;
    if (command === COMMAND.TRIM) return this.#target.trim(offset, length, fua);
    if (command === COMMAND.CACHE) return this.#target.cache(offset, length);
    const mayUnmap = (flags & COMMAND_FLAG.NO_HOLE) === 0;
    return this.#target.writeZeroes(offset, length, { mayUnmap, fua });
  }

  #readSmall(request: Request): void {
    const { offset, length } = request;
    const output = this.#replies.output;
    const headerBytes = this.#replies.readHeaderBytes;
    const arena = output.reserve(headerBytes + length);
    const at = output.at;
    try {
      const pending = this.#target.read(offset, arena.subarray(at + headerBytes, at + headerBytes + length));
      if (pending === undefined) {
        this.#replies.readHeader(arena, at, request, offset, length);
        output.commit(headerBytes + length);
      } else {
        this.#wait(request, pending, output.detach(headerBytes + length));
      }
    } catch (error) {
      this.#fail(request, error);
    }
  }

  #readLarge(request: Request): void {
    const { offset, length } = request;
    const headerBytes = this.#replies.readHeaderBytes;
    const buffer = this.#host.pool.take(headerBytes + length);
    try {
      const pending = this.#target.read(offset, buffer.subarray(headerBytes, headerBytes + length));
      if (pending === undefined) this.#replies.readPooled(buffer, request, offset, length);
      else this.#wait(request, pending, buffer);
    } catch (error) {
      this.#host.pool.give(buffer);
      this.#fail(request, error);
    }
  }

  #blockStatus(request: Request): void {
    const answers = this.#session.contexts.map(context => this.#statusOf(context.name, request));
    if (answers.every(answer => Array.isArray(answer))) {
      this.#sendStatus(request, answers);
      return;
    }
    this.#started(0);
    // All of them, so that none is still with the export when the request has ended.
    void Promise.allSettled(answers).then(results =>
      this.#ended(0, () => {
        const failed = results.find(result => result.status === 'rejected');
        if (failed !== undefined) this.#fail(request, failed.reason);
        else
          this.#sendStatus(
            request,
            results.map(result => (result as { value: StatusExtent[] }).value),
          );
      }),
    );
  }

  #statusOf(context: string, { offset, length }: Request): StatusExtent[] | Promise<StatusExtent[]> {
    try {
      return this.#target.blockStatus(context, offset, length);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #sendStatus(request: Request, results: readonly StatusExtent[][]): void {
    const one = (request.flags & COMMAND_FLAG.REQ_ONE) !== 0;
    const trimmed = results.map(extents => trimExtents(extents, request.length, one));
    if (trimmed.some(extents => extents.length === 0)) {
      this.#replies.failed(request, ERRNO.EIO, 'the export reported no status');
      return;
    }
    for (const [index, extents] of trimmed.entries()) {
      const last = index === trimmed.length - 1;
      this.#replies.status(request, this.#session.contexts[index]!.id, extents, last);
    }
  }

  /** The request goes on in the background, using `holding` until it ends. */
  #wait(current: Request, pending: Promise<void>, holding: Holding): void {
    const request = { ...current };
    const bytes = holding === undefined ? 0 : request.length;
    this.#started(bytes);
    pending.then(
      () => this.#ended(bytes, () => this.#complete(request, holding)),
      error =>
        this.#ended(bytes, () => {
          this.#letGo(holding);
          this.#fail(request, error);
        }),
    );
  }

  #started(bytes: number): void {
    this.#inFlight++;
    this.#inFlightBytes += bytes;
  }

  #ended(bytes: number, reply: () => void): void {
    this.#inFlight--;
    this.#inFlightBytes -= bytes;
    reply();
    this.#replies.output.flushSoon();
    this.#host.ended();
  }

  #complete(request: Request, holding: Holding): void {
    if (request.command !== COMMAND.READ) {
      this.#letGo(holding);
      this.#replies.done(request);
    } else if (Buffer.isBuffer(holding)) {
      this.#replies.readPooled(holding, request, request.offset, request.length);
    } else {
      this.#replies.readSlice(holding as ArenaSlice, request, request.offset, request.length);
    }
  }

  #letGo(holding: Holding): void {
    if (holding === undefined) return;
    if (Buffer.isBuffer(holding)) this.#host.pool.give(holding);
    else if ('arena' in holding) this.#replies.output.dropSlice(holding);
    else holding.release();
  }

  #fail(request: Request, error: unknown): void {
    const errno = error instanceof NbdError ? error.errno : this.#host.toErrno(error);
    const message = error instanceof NbdError ? error.message : ERRNO_MESSAGES[errno];
    this.#replies.failed(request, ERRNO[errno] ?? ERRNO.EIO, message);
  }

  /** Answers a request that has nothing to do. */
  acknowledge(request: Request): void {
    this.#replies.done(request);
  }

  /** Answers a request that the export never sees. */
  refuse(request: Request, errno: number): void {
    this.#replies.failed(request, errno, refusalMessage(request, errno, this.#target));
  }
}
