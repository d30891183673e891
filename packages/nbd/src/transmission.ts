// Transmission phase, server side: takes requests out of the socket's bytes without joining them first, and
// holds back while too much is in flight. A WRITE's data stays where the kernel put it.
import { Executor, type ExecutorHost } from './executor.ts';
import type { Session } from './handshake.ts';
import type { ByteReceiver, Chunk, ChunkSource } from './input.ts';
import { DIRECT_READ_BYTES_MIN } from './limits.ts';
import type { Output } from './output.ts';
import { COMMAND, REQUEST_BYTES, REQUEST_MAGIC } from './protocol.ts';
import { ReplyWriter } from './reply.ts';
import { checkRequest, decodeRequest, emptyRequest, type Request } from './request.ts';

/** What a transmission needs of its connection. */
export interface TransmissionHost extends Omit<ExecutorHost, 'ended'> {
  /** Stops and restarts reading the socket. */
  pause(): void;
  resume(): void;
  /** The client has said goodbye and every request is answered. */
  finished(): void;
  /** The client broke the protocol: nothing it sends can be understood any more. */
  violated(reason: string): void;
  /** No request is with the export any more. */
  idle(): void;
}

export class Transmission implements ByteReceiver {
  readonly #host: TransmissionHost;
  readonly #session: Session;
  readonly #executor: Executor;
  readonly #output: Output;
  readonly #chunks: ChunkSource;
  readonly #request: Request = emptyRequest();
  /** A request's head that two reads cut apart. */
  readonly #head = Buffer.alloc(REQUEST_BYTES);
  #headFilled = 0;
  /** A WRITE's data that did not arrive in one piece. */
  #payload: Buffer | undefined;
  #payloadFilled = 0;
  /** Where the kernel puts the payload's remainder without a copy. */
  #direct: Buffer | undefined;
  /** Data of a refused WRITE still to pass over, and the errno to answer then. */
  #skipBytes = 0;
  #skipErrno = 0;
  /** Bytes not parsed because too much is in flight. */
  #stalled:
    | { readonly buffer: Buffer; readonly chunk: Chunk | undefined; at: number; end: number }
    | undefined;
  #disconnecting = false;
  #stopped = false;

  constructor(host: TransmissionHost, session: Session, output: Output, chunks: ChunkSource) {
    this.#host = host;
    this.#session = session;
    this.#output = output;
    this.#chunks = chunks;
    const { pool, requestsMax } = host;
    const toErrno = host.toErrno.bind(host);
    const executorHost = { pool, requestsMax, toErrno, ended: () => this.#ended() };
    this.#executor = new Executor(executorHost, session, new ReplyWriter(output, session.structured));
  }

  /** Requests that are with the export now. */
  get inFlight(): number {
    return this.#executor.inFlight;
  }

  /** Takes no further request; those in flight go on, their replies are for the connection to drop. */
  stop(): void {
    this.#stopped = true;
  }

  nextBuffer(): Buffer {
    const payload = this.#payload;
    const left = payload === undefined ? 0 : this.#request.length - this.#payloadFilled;
    if (payload !== undefined && left >= DIRECT_READ_BYTES_MIN) {
      this.#direct = payload.subarray(this.#payloadFilled, this.#request.length);
      return this.#direct;
    }
    this.#direct = undefined;
    return this.#chunks.next();
  }

  receive(buffer: Buffer, length: number): void {
    if (this.#stopped) return;
    if (buffer === this.#direct) {
      this.#payloadFilled += length;
      this.#finishPayload();
    } else {
      this.#parse(buffer, this.#chunks.owner(buffer), 0, length);
    }
    this.#output.flush();
  }

  /** Replies were taken by the kernel, or a request has ended: goes on where parsing had to stop. */
  unstall(): void {
    const stalled = this.#stalled;
    if (stalled === undefined || this.#stopped || !this.#executor.mayAccept) return;
    this.#stalled = undefined;
    this.#parse(stalled.buffer, stalled.chunk, stalled.at, stalled.end);
    stalled.chunk?.release();
    this.#output.flush();
    if (this.#stalled === undefined) this.#host.resume();
  }

  #parse(buffer: Buffer, chunk: Chunk | undefined, start: number, end: number): void {
    let at = start;
    while (at < end && !this.#stopped && !this.#disconnecting) {
      if (this.#payload !== undefined) {
        const bytes = Math.min(end - at, this.#request.length - this.#payloadFilled);
        buffer.copy(this.#payload, this.#payloadFilled, at, at + bytes);
        this.#payloadFilled += bytes;
        at += bytes;
        this.#finishPayload();
      } else if (this.#skipBytes > 0) {
        const bytes = Math.min(end - at, this.#skipBytes);
        at += bytes;
        this.#skip(bytes);
      } else if (!this.#executor.mayAccept) {
        chunk?.hold();
        this.#stalled = { buffer, chunk, at, end };
        this.#host.pause();
        return;
      } else if (this.#headFilled === 0 && end - at >= REQUEST_BYTES) {
        at = this.#begin(buffer, at, buffer, chunk, at + REQUEST_BYTES, end);
      } else {
        const bytes = Math.min(end - at, REQUEST_BYTES - this.#headFilled);
        buffer.copy(this.#head, this.#headFilled, at, at + bytes);
        this.#headFilled += bytes;
        at += bytes;
        if (this.#headFilled === REQUEST_BYTES) {
          this.#headFilled = 0;
          at = this.#begin(this.#head, 0, buffer, chunk, at, end);
        }
      }
    }
  }

  /** Starts the request whose head is at `headAt`; its data begins at `at`. Returns where the next one begins. */
  #begin(
    head: Buffer,
    headAt: number,
    buffer: Buffer,
    chunk: Chunk | undefined,
    at: number,
    end: number,
  ): number {
    if (head.readUInt32BE(headAt) !== REQUEST_MAGIC) {
      this.#stopped = true;
      this.#host.violated('request without its magic');
      return end;
    }
    const request = this.#request;
    decodeRequest(request, head, headAt);
    if (request.command === COMMAND.DISC) {
      this.#disconnecting = true;
      this.#maybeFinish();
      return end;
    }
    const errno = checkRequest(request, this.#session);
    if (request.command === COMMAND.WRITE) return this.#beginWrite(errno, buffer, chunk, at, end);
    if (errno !== 0) this.#executor.refuse(request, errno);
    else this.#executor.execute(request);
    return at;
  }

  #beginWrite(errno: number, buffer: Buffer, chunk: Chunk | undefined, at: number, end: number): number {
    const length = this.#request.length;
    if (errno !== 0 || length === 0) {
      this.#skipBytes = length;
      this.#skipErrno = errno;
      if (length === 0) this.#skip(0);
      return at;
    }
    if (end - at >= length) {
      this.#executor.write(this.#request, buffer.subarray(at, at + length), chunk);
      return at + length;
    }
    this.#payload = this.#host.pool.take(length);
    buffer.copy(this.#payload, 0, at, end);
    this.#payloadFilled = end - at;
    return end;
  }

  #skip(bytes: number): void {
    this.#skipBytes -= bytes;
    if (this.#skipBytes > 0) return;
    if (this.#skipErrno === 0) this.#executor.acknowledge(this.#request);
    else this.#executor.refuse(this.#request, this.#skipErrno);
  }

  #finishPayload(): void {
    const payload = this.#payload!;
    if (this.#payloadFilled < this.#request.length) return;
    this.#payload = undefined;
    this.#direct = undefined;
    this.#executor.write(this.#request, payload.subarray(0, this.#request.length), payload);
  }

  #ended(): void {
    if (this.#stalled !== undefined) this.unstall();
    if (this.#executor.inFlight > 0) return;
    this.#maybeFinish();
    this.#host.idle();
  }

  #maybeFinish(): void {
    if (!this.#disconnecting || this.#executor.inFlight > 0 || this.#stopped) return;
    this.#stopped = true;
    this.#output.flush();
    this.#host.finished();
  }
}
