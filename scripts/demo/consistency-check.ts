// Judges what a restore holds of a writer that wrote around the point in time. Per block, no two writes are
// ever in flight together, so a block that holds write n holds, or has held, every earlier write to it.

import type { Range } from './layout.ts';
import { BLOCK_BYTES, readStamp, type Stamp, writeStamp } from './stamped-block.ts';
import type { Instant, WriteHistory } from './write-history.ts';

/** Bytes of a disk that are not what they must be. */
export interface Fault {
  readonly offset: number;
  readonly length: number;
  readonly expected: string;
  readonly found: string;
}

export interface Judgement {
  /** Ordered by offset. */
  readonly faults: Fault[];
  /** Writes acknowledged before the request: all had to be there. */
  readonly demanded: number;
  /** Writes issued after the reply: none was allowed. */
  readonly forbidden: number;
}

/** In `#held`, of a block whose content is a fault already. */
const UNKNOWN = 0xffff_ffff;

export class ConsistencyCheck {
  readonly #history: WriteHistory;
  readonly #instant: Instant;
  readonly #region: Range;
  /** By block: the sequence number it holds; 0 for none. */
  readonly #held: Uint32Array;
  readonly #faults: Fault[] = [];
  readonly #expected = Buffer.alloc(BLOCK_BYTES);
  #blocksSeen = 0;

  /** The history's writer has stopped. `region` is where on the disk its block 0 begins, and how long it is. */
  constructor(history: WriteHistory, instant: Instant, region: Range) {
    this.#history = history;
    this.#instant = instant;
    this.#region = region;
    this.#held = new Uint32Array(region.length / BLOCK_BYTES);
  }

  /** Takes bytes of the restored disk from `offset` on; those outside the region are no concern of it. */
  take(offset: number, bytes: Buffer): void {
    const { offset: start, length } = this.#region;
    const end = Math.min(offset + bytes.length, start + length);
    for (let at = Math.max(offset, start); at < end; at += BLOCK_BYTES) {
      this.#takeBlock((at - start) / BLOCK_BYTES, bytes.subarray(at - offset, at - offset + BLOCK_BYTES));
    }
  }

  /** To be called once, after every block of the region was taken. */
  judge(): Judgement {
    if (this.#blocksSeen !== this.#held.length) {
      throw new Error(`only ${this.#blocksSeen} of ${this.#held.length} blocks of the region were looked at`);
    }
    const { demanded, forbidden } = this.#compareWithHistory();
    this.#faults.sort((a, b) => a.offset - b.offset);
    return { faults: this.#faults, demanded, forbidden };
  }

  #takeBlock(block: number, bytes: Buffer): void {
    this.#blocksSeen += 1;
    const found = readStamp(bytes);
    if (found === 'blank') return; // 0: as before the first write
    const reason = this.#reasonAgainst(found, block, bytes);
    this.#held[block] = reason === null ? (found as Stamp).sequence : UNKNOWN;
    if (reason !== null) this.#fault(block, reason.expected, reason.found);
  }

  /** Null for a block that a write to this block left, whole. */
  #reasonAgainst(found: Stamp | 'damaged', block: number, bytes: Buffer) {
    if (found === 'damaged') return { expected: 'a whole block of the writer', found: 'a damaged block' };
    const { sequence } = found;
    if (found.block !== block) {
      return { expected: `a write to block ${block}`, found: `write ${sequence} to block ${found.block}` };
    }
    const history = this.#history;
    if (sequence < 1 || sequence > history.issued || history.blockOf(sequence) !== block) {
      return { expected: 'a write of this writer', found: `unknown write ${sequence}` };
    }
    writeStamp(this.#expected, found);
    if (bytes.equals(this.#expected)) return null;
    return { expected: `the bytes of write ${sequence}`, found: 'other bytes with a matching checksum' };
  }

  #compareWithHistory(): { demanded: number; forbidden: number } {
    const history = this.#history;
    const { requested, replied } = this.#instant;
    let demanded = 0;
    let forbidden = 0;
    const latest = this.#latestHeld();
    const missing = new Map<number, { sequence: number; why: string }>();
    for (let sequence = 1; sequence <= history.issued; sequence += 1) {
      const block = history.blockOf(sequence);
      const held = this.#held[block]!;
      const acknowledgedAt = history.acknowledgedAt(sequence);
      const wanted = acknowledgedAt <= requested;
      const late = history.issuedAt(sequence) > replied;
      if (wanted) demanded += 1;
      if (late) forbidden += 1;
      if (held === UNKNOWN) continue;
      if (held === sequence && late) {
        const expected = `no write issued after the reply (moment ${replied})`;
        this.#fault(block, expected, `write ${sequence}, issued at moment ${history.issuedAt(sequence)}`);
      }
      if (held >= sequence) continue;
      if (wanted) {
        missing.set(block, { sequence, why: `acknowledged before the request (moment ${requested})` });
      } else if (latest !== null && acknowledgedAt < latest.issuedAt) {
        missing.set(block, { sequence, why: `acknowledged before write ${latest.sequence} was issued` });
      }
    }
    for (const [block, { sequence, why }] of missing) {
      this.#fault(block, `write ${sequence} or a later one, ${why}`, describe(this.#held[block]!));
    }
    return { demanded, forbidden };
  }

  /** The write held that was issued last: whatever was acknowledged before that must be held as well. */
  #latestHeld(): { sequence: number; issuedAt: number } | null {
    let latest: { sequence: number; issuedAt: number } | null = null;
    for (const sequence of this.#held) {
      if (sequence === 0 || sequence === UNKNOWN) continue;
      const issuedAt = this.#history.issuedAt(sequence);
      if (latest === null || issuedAt > latest.issuedAt) latest = { sequence, issuedAt };
    }
    return latest;
  }

  #fault(block: number, expected: string, found: string): void {
    const offset = this.#region.offset + block * BLOCK_BYTES;
    this.#faults.push({ offset, length: BLOCK_BYTES, expected, found });
  }
}

function describe(sequence: number): string {
  return sequence === 0 ? 'the block as before the first write' : `write ${sequence}`;
}
