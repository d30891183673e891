// A disk on another server that may go away for a while: requests wait for the connection to come back, those
// that were under way when it was lost are sent again (doing them twice does no harm), and once the time
// allowed is over they fail, until there is a connection again.
import {
  type BlockNode,
  type Clock,
  EngineError,
  type Extent,
  type WriteZeroesOptions,
} from '@tidemark/engine';
import { RECONNECT_PAUSE_MS_MAX, RECONNECT_PAUSE_MS_MIN } from '../limits.ts';
import type { NbdDriver } from './nbd-driver.ts';

export interface ReconnectingNodeOptions {
  /** Connects anew. */
  readonly connect: (signal: AbortSignal) => Promise<NbdDriver>;
  /** How long requests wait after a loss; 0: they fail at once; Infinity: for as long as it takes. */
  readonly reconnectDelayMs: number;
  readonly clock: Clock;
  /** Whether a failure to connect says that the disk does not come back: requests then fail with it at once. */
  readonly isFinal?: ((error: unknown) => boolean) | undefined;
}

/** What is known of the disk before there is a connection. */
type Shape = Pick<NbdDriver, 'sizeBytes' | 'readOnly' | 'serverTakesWrites' | 'requestAlignmentBytes'>;

export class ReconnectingNode implements BlockNode {
  readonly driver = 'nbd';
  readonly clusterSizeBytes = undefined;
  readonly sizeBytes: number;
  /** Of the first connection: a server that has come back otherwise refuses by itself. */
  readonly serverTakesWrites: boolean;
  readonly requestAlignmentBytes: number;
  readonly #options: ReconnectingNodeOptions;
  readonly #closing = new AbortController();
  #current: NbdDriver | undefined;
  /** Requests wait for this, as long as they may. */
  #arrival = Promise.withResolvers<void>();
  #lostAtMs = 0;
  #giveUp = new AbortController();
  #readOnly: boolean;
  /** Why no connection is looked for any more. */
  #gone: unknown;

  private constructor(shape: Shape, options: ReconnectingNodeOptions) {
    this.#options = options;
    this.sizeBytes = shape.sizeBytes;
    this.#readOnly = shape.readOnly;
    this.serverTakesWrites = shape.serverTakesWrites;
    this.requestAlignmentBytes = shape.requestAlignmentBytes;
  }

  /** Takes over a connection. */
  static of(first: NbdDriver, options: ReconnectingNodeOptions): ReconnectingNode {
    const node = new ReconnectingNode(first, options);
    node.#use(first);
    return node;
  }

  /** A disk that is only read, and whose server may be away: requests wait for it from the start. */
  static awaiting(sizeBytes: number, options: ReconnectingNodeOptions): ReconnectingNode {
    const shape = { sizeBytes, readOnly: true, serverTakesWrites: false, requestAlignmentBytes: 1 };
    const node = new ReconnectingNode(shape, options);
    node.#lostAtMs = options.clock.monotonicMs();
    void node.#reconnect(0);
    return node;
  }

  get readOnly(): boolean {
    return this.#readOnly;
  }

  /** For a block node that is reopened; the server's own opinion is `serverTakesWrites`. */
  setReadOnly(readOnly: boolean): void {
    this.#readOnly = readOnly;
  }

  /** Afterwards nothing has changed: NBD has no such request. Grown, the disk would lack what was promised. */
  async resize(sizeBytes: number): Promise<void> {
    if (sizeBytes <= this.sizeBytes) return;
    const hint = 'Grow the disk on its server, then add the block node again.';
    throw new EngineError('unsupported', 'Cannot grow NBD nodes', { node: this.driver, hint });
  }

  read(offset: number, buffer: Buffer): Promise<void> {
    return this.#run(driver => driver.read(offset, buffer));
  }
  write(offset: number, buffer: Buffer): Promise<void> {
    return this.#run(driver => driver.write(offset, buffer));
  }
  writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Promise<void> {
    return this.#run(driver => driver.writeZeroes(offset, length, options));
  }
  discard(offset: number, length: number): Promise<void> {
    return this.#run(driver => driver.discard(offset, length));
  }
  flush(): Promise<void> {
    return this.#run(driver => driver.flush());
  }
  extents(offset: number, length: number): Promise<Extent[]> {
    return this.#run(driver => driver.extents(offset, length));
  }

  /** Requests under way and those that wait fail now; later ones may find a connection again. */
  cancelInFlight(): void {
    this.#giveUp.abort();
    this.#giveUp = new AbortController();
    this.#current?.cancelInFlight();
  }

  /** As `cancelInFlight`, and from here on nobody waits any more: it is about to be closed. */
  abandon(): void {
    this.#closing.abort();
    this.#giveUp.abort();
    this.#current?.cancelInFlight();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#giveUp.abort();
    await this.#current?.close();
  }

  async #run<Result>(request: (driver: NbdDriver) => Promise<Result>): Promise<Result> {
    const giveUp = this.#giveUp.signal;
    for (;;) {
      const driver = this.#current ?? (await this.#connected(giveUp));
      try {
        return await request(driver);
      } catch (error) {
        // An answer of the server is final; a lost connection is not.
        if (!(error instanceof EngineError) || error.context.errno !== 'ECONNRESET') throw error;
        if (giveUp.aborted) throw cancelled(error);
        this.#lose(driver);
      }
    }
  }

  async #connected(giveUp: AbortSignal): Promise<NbdDriver> {
    const { clock, reconnectDelayMs } = this.#options;
    const leftMs = this.#lostAtMs + reconnectDelayMs - clock.monotonicMs();
    if (leftMs > 0 && !giveUp.aborted && this.#gone === undefined) {
      const done = new AbortController();
      const late = clock.sleep(leftMs, AbortSignal.any([giveUp, done.signal]));
      await Promise.race([this.#arrival.promise, late]);
      done.abort();
    }
    if (this.#current !== undefined) return this.#current;
    if (this.#gone !== undefined) throw this.#gone;
    if (giveUp.aborted) throw cancelled();
    throw new EngineError('io', `The NBD server did not come back within ${reconnectDelayMs} ms`, {
      op: 'reconnect',
      node: this.driver,
      errno: 'EIO',
      hint: 'Start the server again, then retry.',
    });
  }

  #use(driver: NbdDriver): void {
    this.#current = driver;
    this.#arrival.resolve();
    void driver.closed.then(() => this.#lose(driver));
  }

  #lose(driver: NbdDriver): void {
    if (this.#current !== driver || this.#closing.signal.aborted) return;
    this.#current = undefined;
    this.#arrival = Promise.withResolvers();
    this.#lostAtMs = this.#options.clock.monotonicMs();
    void this.#reconnect(RECONNECT_PAUSE_MS_MIN);
  }

  async #reconnect(firstPauseMs: number): Promise<void> {
    const { connect, clock } = this.#options;
    const { signal } = this.#closing;
    for (let pauseMs = firstPauseMs; !signal.aborted; ) {
      if (pauseMs > 0) await clock.sleep(pauseMs, signal);
      pauseMs = Math.min(Math.max(2 * pauseMs, RECONNECT_PAUSE_MS_MIN), RECONNECT_PAUSE_MS_MAX);
      const driver = await connect(signal).catch((error: unknown) => this.#noteFailure(error));
      if (this.#gone !== undefined) return;
      if (driver === undefined) continue;
      if (signal.aborted || driver.sizeBytes !== this.sizeBytes) {
        // Another disk is served there now: not the one to go on with.
        await driver.close().catch(() => undefined);
        continue;
      }
      this.#use(driver);
      return;
    }
  }

  #noteFailure(error: unknown): undefined {
    if (this.#options.isFinal?.(error) !== true) return;
    this.#gone = error;
    this.#arrival.resolve();
  }
}

function cancelled(cause?: unknown): EngineError {
  const text = 'The request was cancelled while the NBD server was away';
  return new EngineError('io', text, { op: 'reconnect', node: 'nbd', errno: 'ECANCELED' }, cause);
}
