// One request with an idempotency key: claimed, carried out by whoever has the claim, and answered from what is kept
// when it is sent again.
import { createHash, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AcceptedAnswer, Catalog, IdempotencyRef, IdempotencyState } from '@tidemark/catalog';
import { TidemarkError } from '@tidemark/proto';
import {
  IDEMPOTENCY_KEPT_MS,
  IDEMPOTENCY_LEASE_MS,
  IDEMPOTENCY_POLL_MS,
  IDEMPOTENCY_RENEW_MS,
  IDEMPOTENCY_WAIT_MS,
} from '../limits.ts';

export interface IdempotentRequestOptions {
  readonly catalog: Catalog;
  /** Id of the token; `open` where none is needed. */
  readonly owner: string;
  readonly key: string;
  /** What makes a request the same: its place, and what it asks for. */
  readonly content: readonly [place: string, body: unknown];
}

/** What it was answered, or would have been at once; and the run, whose state may have changed since. */
export interface KeptAnswer extends AcceptedAnswer {
  /** Null: it was never answered. */
  readonly status: number | null;
  readonly runId: string | null;
}

export class IdempotentRequest {
  readonly #catalog: Catalog;
  readonly #ref: IdempotencyRef;
  readonly #hash: string;
  readonly #holder = randomUUID();
  #renewal: NodeJS.Timeout | undefined;

  constructor({ catalog, owner, key, content }: IdempotentRequestOptions) {
    this.#catalog = catalog;
    this.#ref = { owner, key };
    this.#hash = createHash('sha256').update(JSON.stringify(content)).digest('hex');
  }

  /**
   * Null: carry it out, and then call `end`. Otherwise it was carried out already. Waits for who is at it. Rejects
   * `idempotency-key-reused`, `idempotency-key-busy`.
   */
  async claim(signal: AbortSignal): Promise<KeptAnswer | null> {
    const deadline = performance.now() + IDEMPOTENCY_WAIT_MS;
    for (;;) {
      const state = await this.#catalog.idempotency.claim({
        ...this.#ref,
        ...{ requestHash: this.#hash, holder: this.#holder },
        ...{ leaseMs: IDEMPOTENCY_LEASE_MS, keptMs: IDEMPOTENCY_KEPT_MS },
      });
      if (state.requestHash !== this.#hash) throw this.#reused();
      if (state.granted) {
        this.#renewal = setInterval(() => void this.#renew(), IDEMPOTENCY_RENEW_MS).unref();
        return null;
      }
      const kept = keptOf(state);
      if (kept !== null) return kept;
      if (performance.now() > deadline || signal.aborted) throw this.#busy();
      await sleep(IDEMPOTENCY_POLL_MS, undefined, { signal }).catch(() => {});
    }
  }

  /**
   * Within the transaction that writes what is asked for, which is not committed when this rejects: somebody else has
   * taken the request over.
   */
  async commit(
    catalog: Pick<Catalog, 'idempotency'>,
    written: { runId: string | null; accepted: AcceptedAnswer | null },
  ): Promise<void> {
    if (!(await catalog.idempotency.markCommitted(this.#ref, this.#holder, written))) throw this.#busy();
  }

  /** After its answer is known. Null: it is not kept, and who sends it again is told how it goes on. */
  async end(answer: (AcceptedAnswer & { status: number }) | null, hasWritten: boolean): Promise<void> {
    clearInterval(this.#renewal);
    const { idempotency } = this.#catalog;
    if (answer !== null) await idempotency.answer(this.#ref, this.#holder, answer);
    else if (hasWritten) await idempotency.leave(this.#ref, this.#holder);
    else await idempotency.forget(this.#ref, this.#holder);
  }

  async #renew(): Promise<void> {
    // A catalog that is away takes the lease with it; then the transaction of this request fails, too.
    await this.#catalog.idempotency.renew(this.#ref, this.#holder, IDEMPOTENCY_LEASE_MS).catch(() => false);
  }

  #reused(): TidemarkError {
    return new TidemarkError(
      'idempotency-key-reused',
      `The idempotency key '${this.#ref.key}' was sent with another request within the last day. Send a new key with ` +
        'a new request; the same key is for sending the very same request again.',
    );
  }

  #busy(): TidemarkError {
    return new TidemarkError(
      'idempotency-key-busy',
      `The request with the idempotency key '${this.#ref.key}' is still under way. Send it again in a while.`,
    );
  }
}

/** Null while somebody is at it. */
function keptOf({ answer, committed, abandoned, accepted, runId }: IdempotencyState): KeptAnswer | null {
  if (answer !== null) return { ...answer, runId };
  if (!committed || !abandoned) return null;
  return { body: null, location: null, ...accepted, status: null, runId };
}
