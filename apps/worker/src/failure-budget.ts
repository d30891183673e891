// What a run may still fail: counted since its last progress, so that a long run is not given up for what it has got
// over. Both counts are kept in its row; this is what the attempt at hand knows of them.
import type { Run } from '@tidemark/catalog';

export class FailureBudget {
  #failures: number;
  #targetAwayMs: number;

  constructor({ failuresInARow, targetAwayMs }: Pick<Run, 'failuresInARow' | 'targetAwayMs'>) {
    this.#failures = failuresInARow;
    this.#targetAwayMs = targetAwayMs;
  }

  /** With the one that is being told of, from 1. */
  get failures(): number {
    return this.#failures + 1;
  }

  get targetAwayMs(): number {
    return this.#targetAwayMs;
  }

  /** Something failed since the last progress. */
  get isTouched(): boolean {
    return this.#failures > 0 || this.#targetAwayMs > 0;
  }

  /** To be called when the row has been told. */
  renew(): void {
    this.#failures = 0;
    this.#targetAwayMs = 0;
  }
}
