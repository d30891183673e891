// Tells when every request that could know of a freed host cluster has ended. Requests enter before they
// touch the place that the mapping gave them; only after `quiesce` may such a place be given away.

export type Epoch = 0 | 1;

export class EpochGate {
  #epoch: Epoch = 0;
  readonly #inside: [number, number] = [0, 0];
  #emptied: (() => void) | undefined;

  enter(): Epoch {
    this.#inside[this.#epoch]++;
    return this.#epoch;
  }

  leave(epoch: Epoch): void {
    this.#inside[epoch]--;
    if (this.#inside[epoch] === 0 && epoch !== this.#epoch) {
      this.#emptied?.();
      this.#emptied = undefined;
    }
  }

  /** Resolves when all that had entered before the call have left. One call at a time. */
  quiesce(): Promise<void> {
    const old = this.#epoch;
    this.#epoch = old === 0 ? 1 : 0;
    if (this.#inside[old] === 0) return Promise.resolve();
    return new Promise(resolve => {
      this.#emptied = resolve;
    });
  }
}
