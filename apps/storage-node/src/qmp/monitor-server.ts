// Listens on a Unix socket and holds a conversation with whoever connects.
import { chmod, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import type { QmpCommand } from './command.ts';
import { Monitor } from './monitor.ts';
import type { StorageDaemon } from './storage-daemon.ts';

export interface MonitorServerOptions {
  readonly daemon: StorageDaemon;
  readonly commands: ReadonlyMap<string, QmpCommand>;
  readonly path: string;
  readonly pretty?: boolean;
}

export class MonitorServer {
  readonly #options: MonitorServerOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #serving = new Set<Promise<void>>();

  constructor(options: MonitorServerOptions) {
    this.#options = options;
    this.#server = createServer({ allowHalfOpen: true }, socket => this.#accept(socket));
  }

  /** The socket is its owner's alone: who reaches it may do everything. A left-over one is replaced. */
  async start(): Promise<void> {
    const { path } = this.#options;
    await rm(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(path, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
    await chmod(path, 0o600);
  }

  /** Sends what is still to be sent, drops the clients, removes the socket. */
  async close(): Promise<void> {
    const closed = new Promise<void>(resolve => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroySoon();
    await Promise.all([closed, ...this.#serving]);
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    const { daemon, commands, pretty } = this.#options;
    const options = { daemon, commands, stream: socket };
    const serving = new Monitor(pretty === undefined ? options : { ...options, pretty }).serve();
    this.#serving.add(serving);
    void serving.finally(() => {
      this.#serving.delete(serving);
      this.#sockets.delete(socket);
    });
  }
}
