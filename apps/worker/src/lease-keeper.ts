// Keeps a claimed run's lease while it is worked on, and tells by signals when to let go of it.
import type { Catalog, Lease } from '@tidemark/catalog';
import { TidemarkError } from '@tidemark/proto';
import { isSuperseded, toTidemarkError } from './errors.ts';
import type { WorkerLimits } from './limits.ts';
import type { LiveControls } from './run-controls.ts';

export class LeaseKeeper {
  readonly #catalog: Catalog;
  readonly #lease: Lease;
  readonly #limits: WorkerLimits;
  readonly #lost = new AbortController();
  readonly #cancelled = new AbortController();
  readonly #controls: LiveControls | undefined;
  #heldUntilMs: number;
  #timer: NodeJS.Timeout | undefined;
  /** Lets go when the lease runs out, whatever becomes of a renewal that is under way. */
  #expiry: NodeJS.Timeout | undefined;
  /** Why the last renewal that failed did. */
  #failure: unknown;
  #renewal: Promise<void> = Promise.resolve();
  #closed = false;

  /**
   * `controls` hears what the operator wants. `claimedAtMs`: of `performance.now()`, before the claim was sent: the
   * lease may run from then on.
   */
  constructor(
    catalog: Catalog,
    lease: Lease,
    limits: WorkerLimits,
    claimedAtMs: number,
    controls?: LiveControls,
  ) {
    this.#catalog = catalog;
    this.#lease = lease;
    this.#limits = limits;
    this.#controls = controls;
    this.#heldUntilMs = claimedAtMs + limits.leaseMs;
  }

  /** Aborts with `run-superseded` when another attempt holds the run, or may hold it by now. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Aborts with `run-cancelled` when the operator asked for it. */
  get cancelled(): AbortSignal {
    return this.#cancelled.signal;
  }

  start(options: { cancelRequested: boolean }): void {
    if (options.cancelRequested) this.#cancel();
    this.#expireLater();
    this.#schedule();
  }

  /** Afterwards no renewal is under way. The lease is neither kept nor given back. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#expiry);
    await this.#renewal;
  }

  #schedule(): void {
    if (this.#closed || this.lost.aborted) return;
    this.#timer = setTimeout(() => {
      this.#renewal = this.#renew().then(() => this.#schedule());
    }, this.#limits.renewMs);
  }

  async #renew(): Promise<void> {
    const sentAtMs = performance.now();
    try {
      const { cancelRequested, ...controls } = await this.#catalog.leases.renew(
        this.#lease,
        this.#limits.leaseMs,
      );
      this.#heldUntilMs = sentAtMs + this.#limits.leaseMs;
      this.#expireLater();
      if (cancelRequested) this.#cancel();
      this.#controls?.hear(controls);
    } catch (error) {
      // A catalog that is away is no reason to let go before the lease has run out.
      if (isSuperseded(error)) this.#lost.abort(toTidemarkError(error));
      else this.#failure = error;
    }
  }

  #expireLater(): void {
    clearTimeout(this.#expiry);
    if (this.#closed) return;
    const leftMs = Math.ceil(this.#heldUntilMs - performance.now());
    this.#expiry = setTimeout(() => this.#lost.abort(this.#expired()), Math.max(leftMs, 0));
  }

  #cancel(): void {
    if (this.cancelled.aborted) return;
    const text = `Run ${this.#lease.runId} was cancelled on request.`;
    this.#cancelled.abort(new TidemarkError('run-cancelled', text));
  }

  #expired(): TidemarkError {
    const text = `The lease of run ${this.#lease.runId} ran out while the catalog did not answer.`;
    return new TidemarkError('run-superseded', text, this.#failure);
  }
}
