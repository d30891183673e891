// Hears that events were committed, over a connection of its own. A notice only says that it is time to look:
// whoever looks now and then anyway misses nothing while the connection is away.
import pg from 'pg';
import { EVENT_CHANNEL } from './scope.ts';

/** Between two tries to connect. */
const RECONNECT_MS = 1_000;
const CONNECT_TIMEOUT_MS = 5_000;

export class EventListener {
  readonly #url: string;
  readonly #heard: () => void;
  #client: pg.Client | undefined;
  #connecting: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** `heard` must not throw. It is also called after each new connection: what came before it was not heard. */
  constructor(databaseUrl: string, heard: () => void) {
    this.#url = databaseUrl;
    this.#heard = heard;
  }

  start(): void {
    this.#connecting = this.#connect();
  }

  /** Afterwards there is no connection, and nothing is heard. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#connecting;
    await this.#client?.end().catch(() => {});
  }

  async #connect(): Promise<void> {
    const client = new pg.Client({
      connectionString: this.#url,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      keepAlive: true,
    });
    client.on('notification', () => this.#tell());
    let lost = false;
    const lose = () => {
      if (lost) return;
      lost = true;
      client.end().catch(() => {});
      this.#retry();
    };
    client.on('error', lose);
    client.on('end', lose);
    try {
      await client.connect();
      await client.query(`LISTEN ${EVENT_CHANNEL}`);
      this.#client = client;
      this.#tell();
    } catch {
      lose();
    }
  }

  #tell(): void {
    if (!this.#closed) this.#heard();
  }

  #retry(): void {
    this.#client = undefined;
    if (this.#closed) return;
    this.#timer = setTimeout(() => this.start(), RECONNECT_MS);
    this.#timer.unref();
  }
}
