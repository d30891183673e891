// A network line that can be cut and mended: a relay on a port of its own in front of somebody's NBD server.
import { connect, createServer, type Server, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';

export class CutLine {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #isCut = false;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** To the server of the URI. */
  static async to(uri: string): Promise<CutLine> {
    const { hostname: host, port } = new URL(uri);
    const server = createServer();
    const line = new CutLine(server);
    server.on('connection', near => line.#join(near, connect({ host, port: Number(port) })));
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => line.#close());
    return line;
  }

  /** The URI of the same export, by way of this line. */
  over(uri: string): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the line does not listen');
    const url = new URL(uri);
    url.port = String(address.port);
    return url.href;
  }

  /** Ends what is connected, and whoever connects until `mend` is let go of at once. */
  cut(): void {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend(): void {
    this.#isCut = false;
  }

  #join(near: Socket, far: Socket): void {
    for (const socket of [near, far]) {
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        this.#sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    if (this.#isCut) {
      near.destroy();
      far.destroy();
      return;
    }
    near.pipe(far).pipe(near);
  }

  async #close(): Promise<void> {
    this.cut();
    await new Promise(resolve => this.#server.close(resolve));
  }
}
