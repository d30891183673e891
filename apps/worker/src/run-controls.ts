// What the operator wants of a run's job while it is worked on: to stand still, another speed, a good end.
import type { RunControls } from '@tidemark/catalog';

export class LiveControls {
  readonly #listeners = new Set<() => void>();
  #wanted: RunControls;

  constructor(wanted: RunControls) {
    this.#wanted = pick(wanted);
  }

  /** As last heard of. */
  get wanted(): RunControls {
    return this.#wanted;
  }

  /** By the lease's keeper. */
  hear(wanted: RunControls): void {
    const before = this.#wanted;
    this.#wanted = pick(wanted);
    const keys = Object.keys(before) as (keyof RunControls)[];
    if (keys.every(key => before[key] === this.#wanted[key])) return;
    for (const listener of [...this.#listeners]) listener();
  }

  /** Called after each change. Returns the function that ends the subscription. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

function pick({ pauseRequested, finishRequested, speedBytesPerSecond }: RunControls): RunControls {
  return { pauseRequested, finishRequested, speedBytesPerSecond };
}
