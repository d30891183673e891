// One client of a server: its socket, first in the handshake, then in transmission. Everything that ends a
// connection passes through here, and `closed` resolves when its last request has left the export.
import type { Socket } from 'node:net';
import type { BufferPool } from './buffer-pool.ts';
import type { NbdErrno } from './errors.ts';
import type { NbdExport } from './export.ts';
import { type ExportDirectory, Handshake, type HandshakeEnd, type Session } from './handshake.ts';
import { adoptSocket, type ByteReceiver, ChunkSource } from './input.ts';
import { OUTPUT_BYTES_MAX } from './limits.ts';
import { Output } from './output.ts';
import { Transmission, type TransmissionHost } from './transmission.ts';

export interface ConnectionOptions {
  readonly id: number;
  readonly directory: ExportDirectory;
  readonly pool: BufferPool;
  readonly requestsMax: number;
  readonly handshakeTimeoutMs: number;
  toErrno(error: unknown): NbdErrno;
  /** The handshake chose an export. */
  onSession(connection: Connection): void;
  onProtocolError(connection: Connection, reason: string): void;
  /** The socket is closed and no request is with the export any more. */
  onClosed(connection: Connection): void;
}

export class Connection implements ByteReceiver, TransmissionHost {
  readonly id: number;
  /** Address of the client, or `unix`. */
  readonly remote: string;
  readonly pool: BufferPool;
  readonly requestsMax: number;
  /** Resolves when the socket is closed and no request is with the export any more. Never rejects. */
  readonly closed: Promise<void>;
  readonly #options: ConnectionOptions;
  readonly #socket: Socket;
  readonly #chunks: ChunkSource;
  readonly #output: Output;
  readonly #handshake: Handshake;
  readonly #timer: NodeJS.Timeout;
  #transmission: Transmission | undefined;
  #session: Session | undefined;
  #socketClosed = false;
  #reportedClosed = false;
  #resolveClosed!: () => void;

  /** Takes over `accepted`, which must be paused, and greets the client. */
  constructor(accepted: Socket, options: ConnectionOptions) {
    this.#options = options;
    this.id = options.id;
    this.pool = options.pool;
    this.requestsMax = options.requestsMax;
    const { remoteAddress, remotePort } = accepted;
    this.remote = remoteAddress === undefined ? 'unix' : `${remoteAddress}:${remotePort}`;
    this.closed = new Promise(resolve => {
      this.#resolveClosed = resolve;
    });
    this.#chunks = new ChunkSource(options.pool);
    this.#socket = adoptSocket(accepted, this);
    this.#socket.setNoDelay(true);
    this.#socket.setKeepAlive(true, 60_000);
    this.#socket.on('error', () => undefined);
    this.#socket.on('close', () => this.#onSocketClose());
    this.#output = new Output(this.#socket, options.pool, () => this.#transmission?.unstall());
    this.#handshake = new Handshake(
      options.directory,
      bytes => this.#socket.write(bytes),
      () => this.#socket.writableLength > OUTPUT_BYTES_MAX,
    );
    this.#timer = setTimeout(() => this.violated('handshake took too long'), options.handshakeTimeoutMs);
    this.#timer.unref();
    this.#handshake.start();
  }

  /** The export in use, once the handshake has chosen one. */
  get target(): NbdExport | undefined {
    return this.#session?.target;
  }

  /** Requests that are with the export now. */
  get inFlight(): number {
    return this.#transmission?.inFlight ?? 0;
  }

  toErrno(error: unknown): NbdErrno {
    return this.#options.toErrno(error);
  }

  nextBuffer(): Buffer {
    return this.#transmission?.nextBuffer() ?? this.#chunks.next();
  }

  receive(buffer: Buffer, length: number): void {
    if (this.#transmission !== undefined) {
      this.#transmission.receive(buffer, length);
      return;
    }
    if (this.#socket.destroyed || this.#socket.writableEnded) return;
    const end = this.#handshake.receive(buffer.subarray(0, length));
    if (end !== undefined) this.#endHandshake(end);
  }

  #endHandshake(end: HandshakeEnd): void {
    clearTimeout(this.#timer);
    if (end.session === undefined) {
      if (end.violation === undefined) this.#socket.end(() => this.destroy());
      else this.violated(end.violation);
      return;
    }
    this.#session = end.session;
    this.#transmission = new Transmission(this, end.session, this.#output, this.#chunks);
    this.#options.onSession(this);
    if (end.rest.byteLength > 0) this.#transmission.receive(end.rest, end.rest.byteLength);
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  finished(): void {
    this.#socket.end(() => this.destroy());
  }

  violated(reason: string): void {
    this.#options.onProtocolError(this, reason);
    this.#output.flush();
    this.destroy();
  }

  idle(): void {
    if (this.#socketClosed) this.#reportClosed();
  }

  /** Closes the socket at once; requests in flight go on, their replies are dropped. */
  destroy(): void {
    clearTimeout(this.#timer);
    this.#transmission?.stop();
    this.#socket.destroy();
  }

  #onSocketClose(): void {
    clearTimeout(this.#timer);
    this.#socketClosed = true;
    this.#transmission?.stop();
    this.#output.close();
    if (this.inFlight === 0) this.#reportClosed();
  }

  #reportClosed(): void {
    if (this.#reportedClosed) return;
    this.#reportedClosed = true;
    this.#options.onClosed(this);
    this.#resolveClosed();
  }
}
