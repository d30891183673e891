// A small deterministic random generator (xorshift128, seeded by splitmix32): a printed seed repeats a run.

export class SeededRandom {
  readonly seed: number;
  readonly #state = new Uint32Array(4);

  constructor(seed: number) {
    this.seed = seed >>> 0;
    let mix = this.seed;
    for (let index = 0; index < this.#state.length; index++) {
      mix = (mix + 0x9e3779b9) >>> 0;
      let word = Math.imul(mix ^ (mix >>> 16), 0x85ebca6b);
      word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35);
      this.#state[index] = word ^ (word >>> 16);
    }
    if (this.#state.every(word => word === 0)) this.#state[0] = 1;
  }

  /** 32 random bits. */
  uint32(): number {
    const state = this.#state;
    let mixed = state[3]!;
    mixed ^= mixed << 11;
    mixed ^= mixed >>> 8;
    state[3] = state[2]!;
    state[2] = state[1]!;
    const first = state[0]!;
    state[1] = first;
    state[0] = mixed ^ first ^ (first >>> 19);
    return state[0]!;
  }

  /** A whole number in [min, max], both included; any range of safe integers. */
  int(min: number, max: number): number {
    const span = max - min + 1;
    const fraction = ((this.uint32() >>> 5) * 0x4000000 + (this.uint32() >>> 6)) / 2 ** 53;
    return min + Math.floor(fraction * span);
  }

  /** True with the given probability, 0 to 1. */
  chance(probability: number): boolean {
    return this.uint32() / 2 ** 32 < probability;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.int(0, items.length - 1)]!;
  }

  bytes(length: number): Buffer {
    const buffer = Buffer.allocUnsafe(length);
    let index = 0;
    for (; index + 4 <= length; index += 4) buffer.writeUInt32LE(this.uint32(), index);
    for (; index < length; index++) buffer[index] = this.uint32() & 0xff;
    return buffer;
  }
}
