// The NBD server: listens, keeps the exports, and knows who uses them. Constructing starts nothing.
import { createServer, type ListenOptions, type Server, type Socket } from 'node:net';
import { BufferPool } from './buffer-pool.ts';
import { Connection } from './connection.ts';
import { type NbdErrno, NbdServerError } from './errors.ts';
import type { NbdExport } from './export.ts';
import type { ExportDirectory } from './handshake.ts';
import {
  CONNECTIONS_MAX,
  CONNECTIONS_WAITING_MAX,
  HANDSHAKE_TIMEOUT_MS,
  REQUESTS_MAX,
  STRING_BYTES_MAX,
} from './limits.ts';

/** A client, as the server's events and `connections()` describe it. */
export interface NbdConnectionInfo {
  readonly id: number;
  /** `address:port`, or `unix`. */
  readonly remote: string;
  /** Undefined until the handshake has chosen one. */
  readonly exportName: string | undefined;
}

export interface NbdServerOptions {
  /** Errno for an error that is no `NbdError`; EIO where this says nothing. */
  toErrno?: (error: unknown) => NbdErrno;
  connectionsMax?: number;
  /**
   * Further connections are closed at once (`refuse`, the default), or greeted when another one has gone
   * (`wait`); of those that wait no more than `CONNECTIONS_WAITING_MAX`.
   */
  whenFull?: 'refuse' | 'wait';
  /** Requests of one connection that may wait for the export; the client's next ones stay in its socket. */
  requestsMax?: number;
  handshakeTimeoutMs?: number;
  /** A client has chosen an export. */
  onConnect?: (connection: NbdConnectionInfo) => void;
  /** A client that had chosen an export is gone and its requests are done. */
  onDisconnect?: (connection: NbdConnectionInfo) => void;
  /** A client broke the protocol and was closed, or was refused for `connectionsMax`. */
  onProtocolError?: (connection: NbdConnectionInfo, reason: string) => void;
}

export type NbdListenOptions = { readonly host?: string; readonly port: number } | { readonly path: string };
export type NbdAddress = { readonly host: string; readonly port: number } | { readonly path: string };

/** `safe` refuses while clients use the export; `hard` closes them and waits for their requests. */
export type RemovalMode = 'safe' | 'hard';

export class NbdServer implements ExportDirectory {
  readonly #options: NbdServerOptions;
  readonly #exports = new Map<string, NbdExport>();
  readonly #connections = new Set<Connection>();
  /** Accepted, but not greeted yet; paused. */
  readonly #waiting = new Set<Socket>();
  readonly #listeners: Server[] = [];
  readonly #pool = new BufferPool();
  #nextId = 1;
  #closing = false;

  constructor(options: NbdServerOptions = {}) {
    this.#options = options;
  }

  get closing(): boolean {
    return this.#closing;
  }

  /** @throws NbdServerError `exists`, `invalid-argument` or `closed`; nothing has changed then. */
  addExport(target: NbdExport): void {
    if (this.#closing) throw new NbdServerError('closed', 'the server is closed: start a new one');
    checkExport(target);
    if (this.#exports.has(target.name)) {
      throw new NbdServerError('exists', `export "${target.name}" exists already: remove it first`);
    }
    this.#exports.set(target.name, target);
  }

  /**
   * Removes an export. Afterwards nobody can open it, no client uses it and none of its requests runs.
   * @throws NbdServerError `not-found`, or `busy` in mode `safe` while clients use it; it stays then.
   */
  async removeExport(name: string, options: { readonly mode: RemovalMode }): Promise<void> {
    const target = this.#exports.get(name);
    if (target === undefined) throw new NbdServerError('not-found', `there is no export "${name}"`);
    const users = [...this.#connections].filter(connection => connection.target === target);
    if (options.mode === 'safe' && users.length > 0) {
      const who = users.map(connection => connection.remote).join(', ');
      throw new NbdServerError('busy', `export "${name}" is in use by ${who}: disconnect, or remove it hard`);
    }
    this.#exports.delete(name);
    for (const connection of users) connection.destroy();
    await Promise.all(users.map(connection => connection.closed));
  }

  find(name: string): NbdExport | undefined {
    return this.#exports.get(name);
  }

  listed(): readonly NbdExport[] {
    return [...this.#exports.values()].filter(target => target.listed);
  }

  /** Every client, those still in the handshake included. */
  connections(): NbdConnectionInfo[] {
    return [...this.#connections].map(describe);
  }

  /** Listens on one more address; port 0 picks a free one. Rejects with the system's error. */
  listen(where: NbdListenOptions): Promise<NbdAddress> {
    if (this.#closing) {
      return Promise.reject(new NbdServerError('closed', 'the server is closed: start a new one'));
    }
    const listener = createServer({ pauseOnConnect: true, noDelay: true });
    const options: ListenOptions = 'path' in where ? { path: where.path } : { ...where };
    return new Promise((resolve, reject) => {
      listener.once('error', reject);
      listener.listen(options, () => {
        listener.off('error', reject);
        // After this an error can only be a failed accept: the client sees it, the next one may succeed.
        listener.on('error', () => undefined);
        listener.on('connection', socket => this.#accept(socket));
        this.#listeners.push(listener);
        resolve(addressOf(listener)!);
      });
    });
  }

  /** The first address listened on, or undefined before `listen` and after `close`. */
  address(): NbdAddress | undefined {
    const first = this.#listeners[0];
    return first === undefined ? undefined : addressOf(first);
  }

  /** Stops listening, closes every client, waits for their requests. Calling it again does no harm. */
  async close(): Promise<void> {
    this.#closing = true;
    const listeners = this.#listeners.splice(0);
    const stopped = listeners.map(listener => new Promise<void>(resolve => listener.close(() => resolve())));
    const connections = [...this.#connections];
    for (const connection of connections) connection.destroy();
    for (const socket of this.#waiting) socket.destroy();
    await Promise.all([...stopped, ...connections.map(connection => connection.closed)]);
  }

  #accept(socket: Socket): void {
    const max = this.#options.connectionsMax ?? CONNECTIONS_MAX;
    if (this.#closing) socket.destroy();
    else if (this.#connections.size < max) this.#serve(socket);
    else if (this.#options.whenFull === 'wait' && this.#waiting.size < CONNECTIONS_WAITING_MAX) {
      this.#waiting.add(socket);
      socket.on('error', () => undefined);
      socket.once('close', () => this.#waiting.delete(socket));
    } else {
      const info = { id: this.#nextId++, remote: socket.remoteAddress ?? 'unix', exportName: undefined };
      socket.destroy();
      this.#options.onProtocolError?.(info, `more than ${max} connections`);
    }
  }

  #serve(socket: Socket): void {
    const connection = new Connection(socket, {
      id: this.#nextId++,
      directory: this,
      pool: this.#pool,
      requestsMax: this.#options.requestsMax ?? REQUESTS_MAX,
      handshakeTimeoutMs: this.#options.handshakeTimeoutMs ?? HANDSHAKE_TIMEOUT_MS,
      toErrno: this.#options.toErrno ?? (() => 'EIO'),
      onSession: session => this.#options.onConnect?.(describe(session)),
      onProtocolError: (broken, reason) => this.#options.onProtocolError?.(describe(broken), reason),
      onClosed: closed => this.#onClosed(closed),
    });
    this.#connections.add(connection);
  }

  #onClosed(closed: Connection): void {
    this.#connections.delete(closed);
    if (closed.target !== undefined) this.#options.onDisconnect?.(describe(closed));
    const [next] = this.#waiting;
    if (next === undefined || this.#closing) return;
    this.#waiting.delete(next);
    this.#accept(next);
  }
}

function describe(connection: Connection): NbdConnectionInfo {
  return { id: connection.id, remote: connection.remote, exportName: connection.target?.name };
}

function addressOf(listener: Server): NbdAddress | undefined {
  const address = listener.address();
  if (address === null) return undefined;
  return typeof address === 'string' ? { path: address } : { host: address.address, port: address.port };
}

function checkExport(target: NbdExport): void {
  const refuse = (why: string): never => {
    throw new NbdServerError('invalid-argument', `export "${target.name}": ${why}`);
  };
  if (Buffer.byteLength(target.name) > STRING_BYTES_MAX || target.name.includes('\0'))
    refuse('name too long');
  if (!Number.isSafeInteger(target.sizeBytes) || target.sizeBytes < 0)
    refuse('size is no whole number of bytes');
  const { minBlockBytes: min, preferredBlockBytes: preferred, maxBlockBytes: max } = target;
  // Section "Block size constraints": powers of two, at most 64 KiB, at least 512, in this order.
  if (!isPowerOfTwo(min) || min > 65_536) refuse(`minimum block size ${min} is no power of two up to 64 KiB`);
  if (!isPowerOfTwo(preferred) || preferred < Math.max(512, min)) {
    refuse(`preferred block size ${preferred} is no power of two from 512 on`);
  }
  if (max < preferred || max % min !== 0 || max > 2 ** 32 - 1)
    refuse(`maximum block size ${max} does not fit`);
  if (target.sizeBytes % min !== 0) refuse(`size is no multiple of the minimum block size ${min}`);
}

function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(value) && value > 0 && Number.isInteger(Math.log2(value));
}
