// How long guests waited, counted as plain numbers: noting one costs an addition or two, and nothing is kept of it but
// the newest few, of which percentiles are found when somebody asks.

/** From a copy that the page cache takes to the timeout that most have. */
const BOUNDS_SECONDS = [
  0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
] as const;

/** As many as 99 of 100 can be told of with some certainty. */
const NEWEST_MAX = 2_048;

export class WaitHistogram {
  readonly bounds: readonly number[] = BOUNDS_SECONDS;
  readonly #counts: number[] = new Array(BOUNDS_SECONDS.length + 1).fill(0);
  readonly #newest = new Float64Array(NEWEST_MAX);
  #count = 0;
  #sum = 0;

  /** A wait that has ended, well or not. */
  note(seconds: number): void {
    let bucket = 0;
    while (bucket < BOUNDS_SECONDS.length && seconds > BOUNDS_SECONDS[bucket]!) bucket += 1;
    this.#counts[bucket]! += 1;
    this.#newest[this.#count % NEWEST_MAX] = seconds;
    this.#count += 1;
    this.#sum += seconds;
  }

  /** How many were at most each bound, and above the one before; the last: above all. */
  get counts(): readonly number[] {
    return this.#counts;
  }

  get sum(): number {
    return this.#sum;
  }

  /** Of the newest 2,048, in seconds; undefined before there was one. `share`: from 0 to 1. */
  percentile(share: number): number | undefined {
    const newest = this.#newest.slice(0, Math.min(this.#count, NEWEST_MAX)).sort();
    return newest[Math.min(newest.length - 1, Math.floor(newest.length * share))];
  }
}
