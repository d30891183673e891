// What a job could not read, or found different: the places, in order and joined, up to a bound, and how many bytes in
// all.
import { DAMAGE_RANGES_MAX } from '../limits.ts';

export interface DamagedRange {
  readonly offset: number;
  readonly length: number;
}

export class JobDamage {
  readonly #rangesMax: number;
  /** In order of offsets; neighbours are joined. */
  readonly #ranges: { offset: number; length: number }[] = [];
  #bytes = 0;
  #truncated = false;

  constructor({ rangesMax = DAMAGE_RANGES_MAX }: { rangesMax?: number } = {}) {
    this.#rangesMax = rangesMax;
  }

  /** Each byte is to be added once. Beyond the bound only the bytes are counted. */
  add(offset: number, length: number): void {
    this.#bytes += length;
    const at = this.#ranges.findLastIndex(range => range.offset <= offset);
    const before = this.#ranges[at];
    const after = this.#ranges[at + 1];
    const joinsBefore = before !== undefined && before.offset + before.length === offset;
    const joinsAfter = after !== undefined && offset + length === after.offset;
    if (joinsBefore) before.length += length + (joinsAfter ? after.length : 0);
    else if (joinsAfter) Object.assign(after, { offset, length: length + after.length });
    else if (this.#ranges.length < this.#rangesMax) this.#ranges.splice(at + 1, 0, { offset, length });
    else this.#truncated = true;
    if (joinsBefore && joinsAfter) this.#ranges.splice(at + 1, 1);
  }

  get bytes(): number {
    return this.#bytes;
  }

  get ranges(): readonly DamagedRange[] {
    return this.#ranges;
  }

  /** There are more ranges than these. */
  get truncated(): boolean {
    return this.#truncated;
  }
}
