// The NBD server of the process and the URIs under which others reach its exports.
import { NbdServer, NbdServerError } from '@tidemark/nbd';
import { formatHostPort, type HostPort } from '../host-port.ts';
import { BlockExport, type BlockExportOptions } from './block-export.ts';
import { toNbdErrno } from './errno.ts';

export class NbdExports {
  readonly #listen: HostPort;
  readonly #advertise: HostPort | undefined;
  readonly #server: NbdServer;

  constructor(options: { listen: HostPort; advertise?: HostPort | undefined }) {
    this.#listen = options.listen;
    this.#advertise = options.advertise;
    this.#server = new NbdServer({ toErrno: toNbdErrno });
  }

  /** Listens; exports may be added before or after. Rejects when the address cannot be listened on. */
  async start(): Promise<void> {
    try {
      await this.#server.listen(this.#listen);
    } catch (cause) {
      const text = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`Cannot listen on ${formatHostPort(this.#listen)} for NBD: ${text}`, { cause });
    }
  }

  /** Drops all clients. The block nodes stay their owners' to close. */
  async close(): Promise<void> {
    await this.#server.close();
  }

  /** `host:port` as others reach it. */
  get address(): string {
    if (this.#advertise !== undefined) return formatHostPort(this.#advertise);
    const bound = this.#server.address();
    const port = bound !== undefined && 'port' in bound ? bound.port : this.#listen.port;
    return formatHostPort({ host: this.#listen.host, port });
  }

  uri(name: string): string {
    return `nbd://${this.address}/${encodeURIComponent(name)}`;
  }

  /** Serves the node and returns the URI. The node stays the caller's: close it after `remove`. */
  add(options: BlockExportOptions): string {
    this.#server.addExport(new BlockExport(options));
    return this.uri(options.name);
  }

  /**
   * `safe` refuses while a client is connected, `hard` drops clients. Afterwards no request to the node is
   * under way. Good to repeat.
   */
  async remove(name: string, options: { mode: 'safe' | 'hard' }): Promise<void> {
    try {
      await this.#server.removeExport(name, options);
    } catch (error) {
      if (error instanceof NbdServerError && error.kind === 'not-found') return;
      throw error;
    }
  }
}
