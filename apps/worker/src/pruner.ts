// Removes what is older than it is kept, at intervals and in bounded steps. Any number of workers may do so at once.
import type { Catalog } from '@tidemark/catalog';
import type { Logger } from 'pino';
import type { WorkerLimits } from './limits.ts';
import { Rhythm } from './rhythm.ts';

export interface PrunerOptions {
  readonly catalog: Catalog;
  readonly limits: WorkerLimits;
  readonly log: Logger;
  readonly now: () => number;
}

interface Pruned {
  /** 0: kept for ever. */
  readonly retentionMs: number;
  readonly everyMs: number;
  /** Removes what is older, in steps; ends between two of them once the signal is aborted. */
  prune(before: Date, closing: AbortSignal): Promise<void>;
}

export class Pruner {
  readonly #retentionMs: number;
  readonly #rhythm: Rhythm;
  readonly #closing = new AbortController();

  constructor({ log, now }: Pick<PrunerOptions, 'log' | 'now'>, { retentionMs, everyMs, prune }: Pruned) {
    this.#retentionMs = retentionMs;
    const beat = () => prune(new Date(now() - retentionMs), this.#closing.signal);
    this.#rhythm = new Rhythm(beat, everyMs, log);
  }

  start(): void {
    if (this.#retentionMs > 0) this.#rhythm.start();
  }

  close(): Promise<void> {
    this.#closing.abort();
    return this.#rhythm.close();
  }
}

/** Step after step; how many were removed. */
export async function untilNone(prune: () => Promise<number>, closing: AbortSignal): Promise<number> {
  let pruned = 0;
  let step: number;
  do {
    step = await prune();
    pruned += step;
  } while (step > 0 && !closing.aborted);
  return pruned;
}
