// Guests whose writes are causally ordered over several volumes: a number is written to one volume, and only when that
// was acknowledged to the next. Whoever has a number of a later volume has had it of all earlier ones.
import type { NbdClient } from '@tidemark/nbd';

/** One number each: as much as a bitmap's granule would be too much to restore. */
const BLOCK_BYTES = 4096;

export interface WriterChain {
  /** Chains are told apart by where they write. */
  readonly index: number;
  /** Connections to the volumes, in causal order. */
  readonly guests: readonly NbdClient[];
}

/** Writes until `stop`; the number of whole rounds over all chains. */
export class CausalWriters {
  readonly #chains: readonly WriterChain[];
  #stopping = false;
  #running: Promise<unknown> = Promise.resolve();
  rounds = 0;
  /** The longest that any write took, by the guests' clock. */
  longestMs = 0;

  constructor(chains: readonly WriterChain[]) {
    this.#chains = chains;
  }

  start(): void {
    this.#running = Promise.all(this.#chains.map(chain => this.#write(chain)));
    // Told by `stop`.
    this.#running.catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
  }

  async #write({ index, guests }: WriterChain): Promise<void> {
    for (let number = 1; !this.#stopping; number++) {
      const block = blockOf(number);
      for (const guest of guests) {
        const beganMs = performance.now();
        await guest.write(index * BLOCK_BYTES, block);
        this.longestMs = Math.max(this.longestMs, performance.now() - beganMs);
      }
      this.rounds++;
    }
  }
}

export function blockOf(number: number): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  for (let at = 0; at < BLOCK_BYTES; at += 8) block.writeBigUInt64LE(BigInt(number), at);
  return block;
}

/**
 * Effects without their causes in contents of one instant, in words: `disks` in the chains' order. A disk has the
 * number of the one before, or the number before that, and never more.
 */
export function violations(disks: readonly Buffer[], chains: number): string[] {
  const found: string[] = [];
  for (let index = 0; index < chains; index++) {
    const numbers = disks.map(disk => numberAt(disk, index));
    for (const [place, number] of numbers.entries()) {
      if (number === undefined) found.push(`chain ${index}: block of disk ${place} is torn`);
      const cause = place === 0 ? numbers.at(-1)! + 1 : numbers[place - 1]!;
      const isTooOld = place > 0 && number! < cause - 1;
      const isTooNew = place === 0 ? number! > cause : number! > cause;
      if (isTooNew) found.push(`chain ${index}: disk ${place} has ${number}, its cause only ${cause}`);
      if (isTooOld) found.push(`chain ${index}: disk ${place} has ${number}, though ${cause} had been begun`);
    }
  }
  return found;
}

/** Undefined where the block is made of two. */
function numberAt(disk: Buffer, index: number): number | undefined {
  const block = disk.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
  const number = Number(block.readBigUInt64LE(0));
  return blockOf(number).equals(block) ? number : undefined;
}
