// Listens on a Unix socket and holds a conversation with whoever connects.
import { chmod, lstat, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import type { QmpCommand } from './command.ts';
import { Monitor } from './monitor.ts';
import type { StorageDaemon } from './storage-daemon.ts';

export interface MonitorServerOptions {
  readonly daemon: StorageDaemon;
  readonly commands: ReadonlyMap<string, QmpCommand>;
}

/** A Unix socket's path, or a descriptor that listens already. */
export type MonitorListenOptions = { readonly path: string } | { readonly fd: number };

export class MonitorServer {
  readonly #options: MonitorServerOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #monitors = new Map<Monitor, Promise<void>>();
  /** Undefined: nobody is greeted yet. */
  #serving: { readonly pretty: boolean } | undefined;

  constructor(options: MonitorServerOptions) {
    this.#options = options;
    this.#server = createServer({ allowHalfOpen: true }, socket => this.#accept(socket));
  }

  /**
   * Clients may connect, and wait until `serve`. The socket is its owner's alone: who reaches it may do
   * everything. A left-over one is replaced. Rejects with the system's error.
   */
  async listen(where: MonitorListenOptions): Promise<void> {
    const path = 'path' in where ? where.path : undefined;
    const found = path === undefined ? undefined : await lstat(path).catch(() => undefined);
    if (path !== undefined && found?.isSocket()) await rm(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(where, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
    if (path !== undefined) await chmod(path, 0o600);
  }

  /** Greets those who are there and all who come. */
  serve({ pretty = false } = {}): void {
    this.#serving = { pretty };
    for (const socket of this.#sockets) this.#converse(socket);
  }

  /** Whether somebody has begun to serve it. */
  get inUse(): boolean {
    return this.#serving !== undefined;
  }

  /** Sends what is still to be sent, drops the clients, removes the socket. */
  async close(): Promise<void> {
    const closed = new Promise<void>(resolve => this.#server.close(() => resolve()));
    if (!this.inUse) for (const socket of this.#sockets) socket.destroy();
    for (const monitor of this.#monitors.keys()) monitor.end();
    await Promise.all([closed, ...this.#monitors.values()]);
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#sockets.delete(socket));
    if (this.inUse) this.#converse(socket);
  }

  #converse(stream: Socket): void {
    const monitor = new Monitor({ ...this.#options, ...this.#serving!, stream });
    const served = monitor.serve().finally(() => this.#monitors.delete(monitor));
    this.#monitors.set(monitor, served);
  }
}
