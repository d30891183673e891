// A guest that writes numbers to one volume after the other, the next one's only after the last was acknowledged: in
// what is of one instant no volume is ahead of the one before it, nor more than one behind.
import { NbdClient } from '@tidemark/nbd';

const PLACES = 64;
const BLOCK_BYTES = 4096;

export class CausalWriter {
  readonly #guests: readonly NbdClient[];
  #next = 1;
  #stopped = false;
  #loop: Promise<void> = Promise.resolve();
  #longestMs = 0;

  private constructor(guests: readonly NbdClient[]) {
    this.#guests = guests;
  }

  /** Writes until it is stopped. */
  static async start(uris: readonly string[]): Promise<CausalWriter> {
    const guests = await Promise.all(uris.map(uri => NbdClient.connect({ uri })));
    const writer = new CausalWriter(guests);
    writer.#loop = writer.#write();
    return writer;
  }

  /** The number that is being written. */
  get next(): number {
    return this.#next;
  }

  /** Of all writes so far. */
  get longestMs(): number {
    return this.#longestMs;
  }

  /** Rejects where a write failed. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#loop;
    await Promise.all(this.#guests.map(guest => guest.disconnect()));
  }

  async #write(): Promise<void> {
    for (; !this.#stopped; this.#next++) {
      const block = Buffer.alloc(BLOCK_BYTES);
      block.writeUInt32BE(this.#next);
      for (const guest of this.#guests) {
        const beganAt = performance.now();
        await guest.write((this.#next % PLACES) * BLOCK_BYTES, block);
        this.#longestMs = Math.max(this.#longestMs, performance.now() - beganAt);
      }
    }
  }
}

/** The newest number on a disk; every number before it has to be there, as far as its place was not used again. */
export function newestNumber(disk: Buffer): number {
  const numbers = Array.from({ length: PLACES }, (_, place) => disk.readUInt32BE(place * BLOCK_BYTES));
  const newest = Math.max(...numbers);
  for (let number = Math.max(1, newest - PLACES + 1); number <= newest; number++) {
    if (numbers[number % PLACES] !== number) throw new Error(`number ${number} of ${newest} is not there`);
  }
  return newest;
}
