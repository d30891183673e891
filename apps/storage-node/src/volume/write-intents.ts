// Which regions of a volume may hold changes that no stored bitmap has, and the gate that keeps this true: a change
// reaches the images only after its region is in the log, durably, or its granules are dirty in the stored bitmap.
//
// A region's life: absent → wanted → being written → logged, or ahead (logged before a sequential writer reached it)
// → absent, when its bits are stored and nobody has changed it since. The memory never has a region as logged that the
// disk has not: it leaves the memory first, and enters the disk first.
import type { Bitmap, Pending, WriteGate } from '@tidemark/engine';
import { type IntentScope, regionsOf } from './intent-slots.ts';

const ABSENT = 0;
const WANTED = 1;
const WRITING = 2;
const AHEAD = 3;
const LOGGED = 4;

export interface WriteIntentsOptions {
  readonly scope: IntentScope;
  /** How many regions are logged ahead of a sequential writer. */
  readonly regionsAhead: number;
  /** Makes the set of regions durable in the place of the last one. */
  readonly write: (regions: Uint8Array) => Promise<void>;
  /**
   * The log cannot be written: makes it durable that the bitmaps are not to be trusted, so that changes can go on
   * without it. Where that rejects, too, the changes that wait fail.
   */
  readonly distrust: (cause: unknown) => Promise<void>;
}

export class WriteIntents implements WriteGate {
  readonly #options: WriteIntentsOptions;
  readonly #scale: number;
  readonly #states: Uint8Array;
  /** The round in which each region was last changed, or logged ahead. */
  readonly #changed: Uint32Array;
  /** Whether somebody has changed the region, or is about to. */
  readonly #entered: Uint8Array;
  #round = 1;
  #stored: Bitmap | undefined;
  /** Regions for the next write of the log. */
  #wanted: number[] = [];
  /** For those who wait for the next write, and for the one that is under way. */
  #next: PromiseWithResolvers<void> | undefined;
  #writing: Promise<void> = Promise.resolve();
  #running: Promise<void> | undefined;
  #givenUp = false;

  constructor(options: WriteIntentsOptions) {
    this.#options = options;
    const { scope } = options;
    this.#scale = 1 / scope.regionBytes;
    const regions = regionsOf(scope);
    this.#states = new Uint8Array(regions);
    this.#changed = new Uint32Array(regions);
    this.#entered = new Uint8Array(regions);
  }

  /** The bitmaps are not trusted, and changes go on without the log. */
  get givenUp(): boolean {
    return this.#givenUp;
  }

  get isEmpty(): boolean {
    return this.#states.every(state => state === ABSENT);
  }

  /** Whether a region was changed, or logged ahead, since `nextRound`. */
  get changedThisRound(): boolean {
    return this.#changed.includes(this.#round);
  }

  /** To be called in the same turn as the bits of the change are set, before or after. */
  before(offset: number, length: number): Pending {
    // The region size is a power of two: the product is exact.
    const first = Math.floor(offset * this.#scale);
    const last = Math.floor((offset + length - 1) * this.#scale);
    let isLogged = true;
    for (let region = first; region <= last; region++) {
      this.#changed[region] = this.#round;
      if (this.#states[region] !== LOGGED) isLogged = false;
    }
    if (isLogged || this.#givenUp) return undefined;
    if (this.#stored !== undefined && this.#stored.nextZero(offset, offset + length) < 0) return undefined;
    return this.#enter(first, last) ? undefined : this.#logged(first, last);
  }

  /**
   * From here on changes count as later ones. Those before have their bits set already, so that a copy of the bits
   * made in the same turn has all of them. Returns the number of the round that begins.
   */
  nextRound(): number {
    this.#round += 1;
    return this.#round;
  }

  /** These bits are on the disk; undefined: none that changes could rely on. */
  setStored(bits: Bitmap | undefined): void {
    this.#stored = bits;
  }

  /** Takes out the regions that were not changed since the round began: bits copied then are on the disk. */
  async retire(round: number): Promise<void> {
    let retired = false;
    for (let region = 0; region < this.#states.length; region++) {
      if (this.#states[region]! < AHEAD || this.#changed[region]! >= round) continue;
      this.#states[region] = ABSENT;
      this.#entered[region] = 0;
      retired = true;
    }
    // Nobody relies on it: where it fails, the disk names more regions than it has to.
    if (retired && !this.#givenUp) await this.#nextWrite().catch(() => undefined);
  }

  /** Resolves with no write of the log under way. */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  /** True where all of the regions are logged by now; what is missing is asked for. */
  #enter(first: number, last: number): boolean {
    let isLogged = true;
    for (let region = first; region <= last; region++) {
      if (this.#states[region] === ABSENT) this.#want(region);
      if (this.#states[region] === AHEAD) this.#states[region] = LOGGED;
      else if (this.#states[region] !== LOGGED) isLogged = false;
      if (this.#entered[region] === 1) continue;
      this.#entered[region] = 1;
      if (this.#isSequential(region)) this.#logAhead(region);
    }
    return isLogged;
  }

  /** Whoever comes to a region after changing the one before is likely to go on so. */
  #isSequential(region: number): boolean {
    return region > 0 && this.#entered[region - 1] === 1 && this.#changed[region - 1]! >= this.#round - 1;
  }

  /** Several at a time, so that the log is not written for each of them. */
  #logAhead(region: number): void {
    const { regionsAhead } = this.#options;
    const half = Math.min(region + Math.ceil(regionsAhead / 2), this.#states.length - 1);
    if (this.#states[half] !== ABSENT) return;
    const end = Math.min(region + regionsAhead, this.#states.length - 1);
    for (let ahead = region + 1; ahead <= end; ahead++) {
      if (this.#states[ahead] !== ABSENT) continue;
      this.#want(ahead);
      // Not taken out with the next round: the writer is about to come.
      this.#changed[ahead] = this.#round + 1;
    }
    void this.#nextWrite();
  }

  #want(region: number): void {
    this.#states[region] = WANTED;
    this.#wanted.push(region);
  }

  /** Rejects where the log cannot be written and it cannot be made known either that it was given up. */
  async #logged(first: number, last: number): Promise<void> {
    do await (this.#isWanted(first, last) ? this.#nextWrite() : this.#writing);
    while (!this.#givenUp && !this.#enter(first, last));
  }

  #isWanted(first: number, last: number): boolean {
    for (let region = first; region <= last; region++) if (this.#states[region] === WANTED) return true;
    return false;
  }

  #nextWrite(): Promise<void> {
    if (this.#next === undefined) {
      this.#next = Promise.withResolvers();
      // Of regions that are logged ahead nobody waits for it.
      this.#next.promise.catch(() => undefined);
    }
    const { promise } = this.#next;
    this.#running ??= this.#run();
    return promise;
  }

  async #run(): Promise<void> {
    // Requests that came in one piece share one write.
    await new Promise<void>(resolve => setImmediate(resolve));
    while (this.#next !== undefined) {
      const { promise, resolve, reject } = this.#next;
      this.#next = undefined;
      this.#writing = promise;
      await this.#write().then(resolve, reject);
    }
    this.#running = undefined;
  }

  async #write(): Promise<void> {
    const regions = this.#wanted;
    this.#wanted = [];
    for (const region of regions) this.#states[region] = WRITING;
    try {
      await this.#options.write(this.#encode());
    } catch (error) {
      for (const region of regions) this.#forget(region);
      if (regions.length === 0) throw error;
      await this.#options.distrust(error);
      this.#givenUp = true;
      return;
    }
    for (const region of regions) this.#states[region] = this.#entered[region] === 1 ? LOGGED : AHEAD;
  }

  #forget(region: number): void {
    this.#states[region] = ABSENT;
    this.#entered[region] = 0;
  }

  #encode(): Uint8Array {
    const bits = new Uint8Array(Math.ceil(this.#states.length / 8));
    for (const [region, state] of this.#states.entries()) {
      if (state >= WRITING) bits[region >> 3]! |= 1 << (region & 7);
    }
    return bits;
  }
}
