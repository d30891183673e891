// Which write was issued and acknowledged when, on one logical clock. The writer's thread writes it; any other
// thread reads the clock at the instants that matter, and the rest once the writer has stopped.

const CLOCK = 0;
const ISSUED = 1;
const ACKNOWLEDGED = 2;
const COUNTERS = 3;
const WORD_BYTES = 4;

/** Readings of the clock around a point in time that somebody else took. */
export interface Instant {
  /** Read just before the request: what was acknowledged up to here is in. */
  readonly requested: number;
  /** Read just after the reply: what was issued later is not in. */
  readonly replied: number;
}

export class WriteHistory {
  /** To be handed to another thread's history. */
  readonly shared: SharedArrayBuffer;
  readonly #counters: Int32Array;
  readonly #blocks: Uint32Array;
  readonly #issuedAt: Uint32Array;
  readonly #acknowledgedAt: Uint32Array;

  private constructor(shared: SharedArrayBuffer) {
    this.shared = shared;
    const writesMax = (shared.byteLength / WORD_BYTES - COUNTERS) / 3;
    const array = (index: number) =>
      new Uint32Array(shared, (COUNTERS + index * writesMax) * WORD_BYTES, writesMax);
    this.#counters = new Int32Array(shared, 0, COUNTERS);
    this.#blocks = array(0);
    this.#issuedAt = array(1);
    this.#acknowledgedAt = array(2);
  }

  /** An empty one. Memory is taken as it fills, 12 bytes a write. */
  static create(writesMax: number): WriteHistory {
    return new WriteHistory(new SharedArrayBuffer((COUNTERS + writesMax * 3) * WORD_BYTES));
  }

  static from(shared: SharedArrayBuffer): WriteHistory {
    return new WriteHistory(shared);
  }

  /** The clock: everything issued or acknowledged until now has a moment up to this. */
  now(): number {
    return Atomics.load(this.#counters, CLOCK);
  }

  /** Writes issued so far; also the newest sequence number. */
  get issued(): number {
    return Atomics.load(this.#counters, ISSUED);
  }

  get acknowledged(): number {
    return Atomics.load(this.#counters, ACKNOWLEDGED);
  }

  /** To be called before the write is sent. Returns its sequence number; 1 for the first. */
  issue(block: number): number {
    const index = this.issued;
    if (index === this.#blocks.length) {
      throw new Error(`the writer's history is full after ${index} writes: the backup takes too long`);
    }
    this.#blocks[index] = block;
    this.#issuedAt[index] = this.#tick();
    return Atomics.add(this.#counters, ISSUED, 1) + 1;
  }

  /** To be called after the write was acknowledged. */
  acknowledge(sequence: number): void {
    this.#acknowledgedAt[sequence - 1] = this.#tick();
    Atomics.add(this.#counters, ACKNOWLEDGED, 1);
  }

  blockOf(sequence: number): number {
    return this.#blocks[sequence - 1]!;
  }

  issuedAt(sequence: number): number {
    return this.#issuedAt[sequence - 1]!;
  }

  /** `Infinity` while it is in flight. */
  acknowledgedAt(sequence: number): number {
    return this.#acknowledgedAt[sequence - 1]! || Infinity;
  }

  #tick(): number {
    return Atomics.add(this.#counters, CLOCK, 1) + 1;
  }
}
