// The NBD server of the process and the URIs under which others reach its exports.
import { type NbdConnectionInfo, NbdServer, NbdServerError } from '@tidemark/nbd';
import { formatHostPort, type HostPort } from '../host-port.ts';
import { FAILURE_REPORT_INTERVAL_MS } from '../limits.ts';
import { BlockExport, type BlockExportOptions, NbdTraffic } from './block-export.ts';
import { toNbdErrno } from './errno.ts';
import { FailureLog, type RequestFailure } from './failure-log.ts';

/** What happens on the wire, for the log. */
export type ExportEvent =
  | { what: 'client-connected' | 'client-disconnected'; remote: string; exportName: string }
  | { what: 'client-refused'; remote: string; reason: string }
  | ({ what: 'requests-failed' } & RequestFailure);

export interface NbdExportsOptions {
  readonly listen: HostPort;
  /** What URIs name; default: the address listened on. */
  readonly advertise?: HostPort | undefined;
  readonly report?: ((event: ExportEvent) => void) | undefined;
}

/** Who knows the name of an unlisted export may use it: logs do not tell. */
const UNLISTED = '(unlisted)';

export class NbdExports {
  /** Of all exports, since the process began. */
  readonly traffic = new NbdTraffic();
  readonly #listen: HostPort;
  readonly #advertise: HostPort | undefined;
  readonly #server: NbdServer;
  readonly #listedNames = new Set<string>();

  constructor(options: NbdExportsOptions) {
    this.#listen = options.listen;
    this.#advertise = options.advertise;
    const report = options.report ?? (() => undefined);
    const failures = new FailureLog({
      report: failure => report({ what: 'requests-failed', ...failure }),
      monotonicMs: () => performance.now(),
      intervalMs: FAILURE_REPORT_INTERVAL_MS,
    });
    const client = (
      what: 'client-connected' | 'client-disconnected',
      { remote, exportName }: NbdConnectionInfo,
    ) =>
      report({ what, remote, exportName: this.#listedNames.has(exportName ?? '') ? exportName! : UNLISTED });
    this.#server = new NbdServer({
      toErrno: error => {
        const errno = toNbdErrno(error);
        failures.note(errno, error);
        return errno;
      },
      onConnect: connection => client('client-connected', connection),
      onDisconnect: connection => client('client-disconnected', connection),
      onProtocolError: ({ remote }, reason) => report({ what: 'client-refused', remote, reason }),
    });
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
    this.#server.addExport(new BlockExport({ ...options, traffic: this.traffic }));
    if (options.listed) this.#listedNames.add(options.name);
    return this.uri(options.name);
  }

  has(name: string): boolean {
    return this.#server.find(name) !== undefined;
  }

  /** Clients at this moment. */
  get clients(): number {
    return this.#server.connections().length;
  }

  /** Clients of an export at this moment. */
  connections(name: string): number {
    return this.#server.connections().filter(({ exportName }) => exportName === name).length;
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
    this.#listedNames.delete(name);
  }
}
