// What a run may still fail: counted since its last progress, so that a long run is not given up for what it has got
// over. Both counts are kept in its row; this is what the attempt at hand knows of them.
import type { Run } from '@tidemark/catalog';

type Counted = Pick<Run, 'failuresInARow' | 'targetAwayMs' | 'takeovers'>;

export class FailureBudget {
  #failures: number;
  #targetAwayMs: number;
  #takeovers: number;

  constructor({ failuresInARow, targetAwayMs, takeovers }: Counted) {
    this.#failures = failuresInARow;
    this.#targetAwayMs = targetAwayMs;
    this.#takeovers = takeovers;
  }

  /** With the one that is being told of, from 1. */
  get failures(): number {
    return this.#failures + 1;
  }

  get targetAwayMs(): number {
    return this.#targetAwayMs;
  }

  /** Something failed, or its worker went silent, since the last progress. */
  get isTouched(): boolean {
    return this.#failures > 0 || this.#targetAwayMs > 0 || this.#takeovers > 0;
  }

  /** To be called when the row has been told. */
  renew(): void {
    this.#failures = 0;
    this.#targetAwayMs = 0;
    this.#takeovers = 0;
  }
}
