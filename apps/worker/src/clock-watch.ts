// Notices that the clock which leases count by was set ahead: they look as if they had run out then, and live workers
// have to have the time to renew them before anybody takes their runs.

/** Two clocks, read one after the other on a busy machine, differ by less. */
const JUMP_MS = 1_000;

export interface ClockMoment {
  /** Of the clock that may be set. */
  readonly wallMs: number;
  /** Of the one that only runs. */
  readonly monotonicMs: number;
}

export class ClockWatch {
  readonly #settleMs: number;
  #before: ClockMoment | undefined;
  #steadyFromMs = 0;

  /** `settleMs`: how long a jump is waited out. */
  constructor({ settleMs }: { settleMs: number }) {
    this.#settleMs = settleMs;
  }

  /** To be asked again and again; a jump that nobody was there to see is not known of. */
  isSteady(moment: ClockMoment): boolean {
    const before = this.#before ?? moment;
    this.#before = moment;
    const jumpMs = moment.wallMs - before.wallMs - (moment.monotonicMs - before.monotonicMs);
    if (jumpMs > JUMP_MS) this.#steadyFromMs = moment.monotonicMs + this.#settleMs;
    return moment.monotonicMs >= this.#steadyFromMs;
  }
}
