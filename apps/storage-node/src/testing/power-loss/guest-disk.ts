// What a guest knows of its disk, sector by sector: every write puts a number of its own into each sector it covers,
// so that contents are numbers, and what a crash left can be told from what it must not have left.
import { SECTOR_BYTES } from '@tidemark/engine';
import type { Crash } from './journal.ts';

interface SectorWrite {
  readonly number: number;
  readonly began: number;
  ended: number;
}

/** Numbers of all sectors. */
export type Contents = Uint32Array;

export class GuestDisk {
  readonly sectors: number;
  readonly #history: SectorWrite[][];
  readonly #flushes: { began: number; ended: number }[] = [];
  #writes = 0;

  constructor(sizeBytes: number) {
    this.sectors = sizeBytes / SECTOR_BYTES;
    this.#history = Array.from({ length: this.sectors }, () => [{ number: 0, began: 0, ended: 0 }]);
  }

  /** A number for one write; 0 are zeroes. */
  nextNumber(): number {
    this.#writes += 1;
    return this.#writes;
  }

  begin(range: { first: number; count: number }, number: number, time: number): { end(time: number): void } {
    const write: SectorWrite = { number, began: time, ended: Infinity };
    for (let sector = range.first; sector < range.first + range.count; sector++) {
      this.#history[sector]!.push(write);
    }
    return {
      end: ended => {
        write.ended = ended;
      },
    };
  }

  flushed(began: number, ended: number): void {
    this.#flushes.push({ began, ended });
  }

  /** The first sector whose number is none that the crash may have left: of an older write than it had to. */
  firstWrong(contents: Contents, { moment }: Crash): string | undefined {
    const durable = this.#flushes
      .filter(flush => flush.ended <= moment)
      .reduce((latest, flush) => Math.max(latest, flush.began), 0);

    for (const [sector, number] of contents.entries()) {
      const writes = this.#history[sector]!.filter(write => write.began < moment || write.began === 0);
      const floor = writes.findLastIndex(write => write.ended <= durable);
      const allowed = writes.slice(Math.max(floor, 0)).map(write => write.number);
      if (!allowed.includes(number)) return `sector ${sector} has ${number}, not one of ${allowed}`;
    }
    return undefined;
  }

  /** After a crash: what is there now is all there is to know, and is on the disk. */
  becomes(contents: Contents): void {
    for (const [sector, number] of contents.entries()) {
      this.#history[sector] = [{ number, began: 0, ended: 0 }];
    }
    this.#flushes.length = 0;
  }
}

export function sectorsWith(number: number, count: number): Buffer {
  const one = Buffer.alloc(4);
  one.writeUInt32LE(number);
  return Buffer.alloc(count * SECTOR_BYTES, one);
}

/** Throws for a sector that is made of two. */
export function numbersIn(bytes: Buffer): Contents {
  const contents = new Uint32Array(bytes.length / SECTOR_BYTES);
  for (const sector of contents.keys()) {
    const part = bytes.subarray(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
    const number = part.readUInt32LE(0);
    // Compared with itself, one number on: the first number decides for all.
    if (part.compare(part, 0, SECTOR_BYTES - 4, 4) !== 0) throw new Error(`sector ${sector} is torn`);
    contents[sector] = number;
  }
  return contents;
}
