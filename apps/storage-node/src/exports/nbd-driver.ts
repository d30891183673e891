// The engine's `nbd` driver: a disk on another NBD server as a block node. Backup data goes from one
// storage node to another through this.
import {
  appendExtent,
  type BlockNode,
  EngineError,
  type Extent,
  isUnreadable,
  type WriteZeroesOptions,
} from '@tidemark/engine';
import { CONTEXT_ALLOCATION, NbdClient, NbdError, NbdOptionError, STATE } from '@tidemark/nbd';
import { NBD_STALL_TIMEOUT_MS } from '../limits.ts';
import { nbdPlace } from './nbd-place.ts';

type Request = 'read' | 'write' | 'write-zeroes' | 'discard' | 'flush' | 'block-status';

/** What the server calls an export that it does not have (section "Option reply types"). */
const NO_SUCH_EXPORT = 'ERR_UNKNOWN';

/** After a status that is not known the server is asked again: what follows may be known. */
const UNKNOWN_BYTES_MAX = 1024 * 1024;

export interface NbdDriverOptions {
  readonly readOnly: boolean | 'if-needed';
  /** Ends the connecting, not the connection. */
  readonly signal?: AbortSignal;
  /** What the server cannot say the status of counts as data, so that whoever reads it learns what is lost. */
  readonly dataWhereUnknown?: boolean;
  /** Default: 60 s. */
  readonly stallTimeoutMs?: number;
}

export class NbdDriver implements BlockNode {
  readonly driver = 'nbd';
  readonly clusterSizeBytes = undefined;
  readonly readOnly: boolean;
  readonly #client: NbdClient;
  /** For messages: none tells the export's name. */
  readonly #place: string;
  readonly #dataWhereUnknown: boolean;

  private constructor(
    client: NbdClient,
    options: { place: string; readOnly: boolean; dataWhereUnknown: boolean },
  ) {
    this.#client = client;
    this.#place = options.place;
    this.readOnly = options.readOnly;
    this.#dataWhereUnknown = options.dataWhereUnknown;
  }

  /**
   * Connects. Rejects with kind `io` when nobody answers, `not-found` when there is no such export,
   * `invalid-argument` when it is read-only and writing was asked for; `if-needed`: such an export is opened
   * read-only. A server that owes replies and is silent for `stallTimeoutMs` (0: for ever) is taken for gone: requests
   * fail with errno ECONNRESET then.
   */
  static async open(uri: string, options: NbdDriverOptions): Promise<NbdDriver> {
    const client = await connect(uri, options);
    const place = nbdPlace(uri);
    if (client.readOnly && options.readOnly === false) {
      await client.disconnect();
      const text = `The NBD export at ${place} is read-only and cannot be written to`;
      throw new EngineError('invalid-argument', text, { op: 'open', path: place });
    }
    const readOnly = options.readOnly === 'if-needed' ? client.readOnly : options.readOnly;
    const { dataWhereUnknown = false } = options;
    return new NbdDriver(client, { place, readOnly, dataWhereUnknown });
  }

  /** Whether the server lets anybody write. */
  get serverTakesWrites(): boolean {
    return !this.#client.readOnly;
  }

  /** Resolves when the connection has gone, whatever ended it. */
  get closed(): Promise<unknown> {
    return this.#client.closed;
  }

  get sizeBytes(): number {
    return this.#client.sizeBytes;
  }

  get requestAlignmentBytes(): number {
    return this.#client.minBlockBytes;
  }

  read(offset: number, buffer: Buffer): Promise<void> {
    return this.#run('read', this.#client.read(offset, buffer), { offset, length: buffer.length });
  }

  write(offset: number, buffer: Buffer): Promise<void> {
    return this.#run('write', this.#client.write(offset, buffer), { offset, length: buffer.length });
  }

  writeZeroes(offset: number, length: number, { mayUnmap }: WriteZeroesOptions): Promise<void> {
    return this.#run('write-zeroes', this.#client.writeZeroes(offset, length, { mayUnmap }), {
      offset,
      length,
    });
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#run('discard', this.#client.trim(offset, length), { offset, length });
  }

  flush(): Promise<void> {
    return this.#run('flush', this.#client.flush(), {});
  }

  /** All data where the server does not tell allocation. */
  async extents(offset: number, length: number): Promise<Extent[]> {
    try {
      return await this.#extents(offset, length);
    } catch (error) {
      if (!this.#dataWhereUnknown || !isUnreadable(error)) throw error;
      return [{ offset, length: Math.min(length, UNKNOWN_BYTES_MAX), data: true, zero: false, depth: 1 }];
    }
  }

  async #extents(offset: number, length: number): Promise<Extent[]> {
    if (!this.#client.contexts.includes(CONTEXT_ALLOCATION)) {
      return [{ offset, length, data: true, zero: false, depth: 1 }];
    }
    const place = { offset, length };
    const status = await this.#run(
      'block-status',
      this.#client.blockStatus(CONTEXT_ALLOCATION, offset, length),
      place,
    );
    const extents: Extent[] = [];
    const end = offset + length;
    let position = offset;
    for (const { length: bytes, flags } of status) {
      // A server may tell more than it was asked for.
      const taken = Math.min(bytes, end - position);
      if (taken <= 0) break;
      const data = (flags & STATE.HOLE) === 0;
      const zero = (flags & STATE.ZERO) !== 0;
      appendExtent(extents, { offset: position, length: taken, data, zero, depth: data ? 1 : 0 });
      position += taken;
    }
    return extents;
  }

  /** Requests in flight fail with ECONNRESET; the connection is gone afterwards. */
  cancelInFlight(): void {
    this.#client.destroy();
  }

  /** Ends the connection in order; requests under way are answered first. */
  async close(): Promise<void> {
    await this.#client.disconnect();
  }

  async #run<T>(op: Request, pending: Promise<T>, place: { offset?: number; length?: number }): Promise<T> {
    try {
      return await pending;
    } catch (error) {
      const context = { op, node: this.driver, path: this.#place, ...place };
      if (error instanceof NbdError) {
        const message = `${op} on the NBD export at ${this.#place} failed: ${error.message} (${error.errno})`;
        throw new EngineError('io', message, { ...context, errno: error.errno }, error);
      }
      if (error instanceof EngineError) throw error;
      const message = `The connection to the NBD server at ${this.#place} was lost during ${op}: ${textOf(error)}`;
      throw new EngineError('io', message, { ...context, errno: 'ECONNRESET' }, error);
    }
  }
}

/** The client would obey its signal as long as it lives: it is given one that ends with the connecting. */
async function connect(uri: string, options: NbdDriverOptions): Promise<NbdClient> {
  const { signal, stallTimeoutMs = NBD_STALL_TIMEOUT_MS } = options;
  const connecting = new AbortController();
  const abort = () => connecting.abort(signal?.reason);
  signal?.addEventListener('abort', abort, { once: true });
  if (signal?.aborted) abort();
  try {
    const contexts = [CONTEXT_ALLOCATION];
    return await NbdClient.connect({ uri }, { contexts, stallTimeoutMs, signal: connecting.signal });
  } catch (error) {
    throw connectError(error, uri);
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}

function connectError(error: unknown, uri: string): EngineError {
  if (error instanceof EngineError) return error;
  const place = nbdPlace(uri);
  const context = { op: 'open', node: 'nbd', path: place };
  const cause = error instanceof NbdOptionError ? withoutName(error) : error;
  if (cause instanceof NbdOptionError && cause.reply === NO_SUCH_EXPORT) {
    const hint = 'It was closed, or its server has started anew: ask for it again.';
    return new EngineError(
      'not-found',
      `There is no such NBD export at ${place}`,
      { ...context, hint },
      cause,
    );
  }
  const message = `Cannot connect to the NBD export at ${place}: ${textOf(cause)}`;
  return new EngineError('io', message, { ...context, errno: systemErrorName(error) }, cause);
}

/** What a server says to a refused option often has the export's name in it, and so has an address. */
function withoutName({ reply }: NbdOptionError): NbdOptionError {
  return new NbdOptionError(
    reply,
    reply === 'URI' ? 'it is no NBD address' : `the server refused it (${reply})`,
  );
}

/** The system's word for it where there is one, such as ECONNREFUSED. */
function systemErrorName(error: unknown): string {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if ('code' in cause && typeof cause.code === 'string' && /^E[A-Z]+$/.test(cause.code)) return cause.code;
  }
  return 'EIO';
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
