// Reads and writes of a file that was opened with O_DIRECT (open(2)): past the page cache, so offset, length and
// memory have to be multiples of the device's block. Callers give any range and any buffer: the data goes
// through aligned memory, and a write that covers a block in part reads the rest of it first.
//
// Such a write shares its edge blocks with others. It waits for whoever overlaps them, and whoever comes later
// waits for it; writes of whole blocks do not wait for one another.
import fs from 'node:fs';
import { FILE_DIRECT_BLOCK_BYTES_MAX, FILE_DIRECT_CHUNK_BYTES, FILE_DIRECT_REQUESTS_MAX } from '../limits.ts';
import { alignDown, alignUp, SECTOR_BYTES } from '../units.ts';
import { promised } from './promised.ts';
import { memoryAddress } from './syscalls.ts';

export interface DirectFile {
  /** The descriptor, opened with O_DIRECT. */
  fd(): number;
  /** Bytes of the file as everybody sees them. */
  sizeBytes(): number;
  /** The file reaches to here now, if it did not before. */
  reached(endBytes: number): void;
}

interface Claim {
  readonly start: number;
  readonly end: number;
  /** Covers a block in part: nobody else may change its blocks meanwhile. */
  readonly alone: boolean;
  readonly ended: Promise<void>;
  readonly release: () => void;
}

export class DirectIo {
  /** Multiples of this go to the file as they are. */
  readonly blockBytes: number;
  readonly #file: DirectFile;
  readonly #claims = new Set<Claim>();
  readonly #free: Buffer[] = [];
  readonly #waiting: (() => void)[] = [];
  #chunks = 0;

  private constructor(file: DirectFile, blockBytes: number) {
    this.#file = file;
    this.blockBytes = blockBytes;
  }

  /** Finds out the block of the file's device. Rejects with the system error of reading. */
  static async open(file: DirectFile): Promise<DirectIo> {
    const memory = alignedMemory(FILE_DIRECT_BLOCK_BYTES_MAX);
    // An empty file answers before it looks at the alignment.
    const probe = () => promised<number>(done => fs.read(file.fd(), memory, 0, SECTOR_BYTES, 0, done));
    const count = await probe().catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'EINVAL') return 0;
      throw error;
    });
    return new DirectIo(file, count === 0 ? FILE_DIRECT_BLOCK_BYTES_MAX : SECTOR_BYTES);
  }

  /** Fills the whole buffer; what lies past the end of the file reads as zeroes. */
  async read(offset: number, buffer: Buffer): Promise<void> {
    const end = offset + buffer.length;
    for (let at = offset; at < end; ) {
      const start = alignDown(at, this.blockBytes);
      const stop = Math.min(start + FILE_DIRECT_CHUNK_BYTES, end);
      await this.#withMemory(async memory => {
        const there = await this.#readBlocks(
          start,
          memory.subarray(0, alignUp(stop, this.blockBytes) - start),
        );
        memory.copy(buffer, at - offset, at - start, Math.min(stop - start, Math.max(there, at - start)));
        if (start + there < stop) buffer.fill(0, Math.max(start + there, at) - offset, stop - offset);
      });
      at = stop;
    }
  }

  /** Writes the whole buffer; the file ends afterwards where it ended, or with the buffer. */
  async write(offset: number, buffer: Buffer): Promise<void> {
    const end = offset + buffer.length;
    await this.claimed(offset, buffer.length, async () => {
      for (let at = offset; at < end; ) {
        const start = alignDown(at, this.blockBytes);
        const stop = Math.min(start + FILE_DIRECT_CHUNK_BYTES, end);
        await this.#withMemory(async memory => {
          const blocks = memory.subarray(0, alignUp(stop, this.blockBytes) - start);
          if (at > start) await this.#readOrZero(start, blocks.subarray(0, this.blockBytes));
          const tail = alignDown(stop, this.blockBytes);
          // The first block may be the last one as well: it is read once.
          if (tail < stop && !(at > start && tail === start)) {
            await this.#readOrZero(tail, blocks.subarray(tail - start));
          }
          buffer.copy(blocks, at - start, at - offset, stop - offset);
          await this.#writeBlocks(start, blocks);
        });
        at = stop;
      }
      const size = Math.max(this.#file.sizeBytes(), end);
      if (alignUp(end, this.blockBytes) > size) {
        await promised<void>(done => fs.ftruncate(this.#file.fd(), size, done));
      }
      this.#file.reached(end);
    });
  }

  /** Runs `change` while nobody else changes the blocks that [offset, offset + length) covers in part. */
  async claimed(offset: number, length: number, change: () => Promise<void>): Promise<void> {
    const [start, end] = [alignDown(offset, this.blockBytes), alignUp(offset + length, this.blockBytes)];
    const alone = start !== offset || end !== offset + length;
    // What makes the file end inside a block cuts it off there: nobody may be adding to it.
    const reach = alone && end > this.#file.sizeBytes() ? Infinity : end;
    for (;;) {
      const other = this.#overlapping(start, reach, alone);
      if (other === undefined) break;
      await other.ended;
    }
    const { promise: ended, resolve: release } = Promise.withResolvers<void>();
    const claim: Claim = { start, end: reach, alone, ended, release };
    this.#claims.add(claim);
    try {
      await change();
    } finally {
      this.#claims.delete(claim);
      claim.release();
    }
  }

  #overlapping(start: number, end: number, alone: boolean): Claim | undefined {
    for (const claim of this.#claims) {
      if ((alone || claim.alone) && claim.start < end && start < claim.end) return claim;
    }
    return undefined;
  }

  async #readOrZero(offset: number, blocks: Buffer): Promise<void> {
    blocks.fill(0, await this.#readBlocks(offset, blocks));
  }

  /** Returns how much of it the file has. */
  async #readBlocks(offset: number, blocks: Buffer): Promise<number> {
    let done = 0;
    while (done < blocks.length) {
      const [from, length] = [done, blocks.length - done];
      const count = await promised<number>(settle =>
        fs.read(this.#file.fd(), blocks, from, length, offset + from, settle),
      );
      done += count;
      // Less than a whole block is the end of the file.
      if (count === 0 || done % this.blockBytes !== 0) break;
    }
    return done;
  }

  async #writeBlocks(offset: number, blocks: Buffer): Promise<void> {
    for (let done = 0; done < blocks.length; ) {
      const [from, length] = [done, blocks.length - done];
      done += await promised<number>(settle =>
        fs.write(this.#file.fd(), blocks, from, length, offset + from, settle),
      );
    }
  }

  /** Lends one chunk of aligned memory; there are a few, and who finds none waits. */
  async #withMemory(use: (memory: Buffer) => Promise<void>): Promise<void> {
    while (this.#free.length === 0 && this.#chunks >= FILE_DIRECT_REQUESTS_MAX) {
      await new Promise<void>(wake => this.#waiting.push(wake));
    }
    let memory = this.#free.pop();
    if (memory === undefined) {
      this.#chunks++;
      memory = alignedMemory(FILE_DIRECT_CHUNK_BYTES);
    }
    try {
      await use(memory);
    } finally {
      this.#free.push(memory);
      this.#waiting.shift()?.();
    }
  }
}

/** Memory that begins at a multiple of the largest block. */
function alignedMemory(length: number): Buffer {
  const memory = Buffer.allocUnsafeSlow(length + FILE_DIRECT_BLOCK_BYTES_MAX);
  const beyond = Number(memoryAddress(memory) % BigInt(FILE_DIRECT_BLOCK_BYTES_MAX));
  const start = beyond === 0 ? 0 : FILE_DIRECT_BLOCK_BYTES_MAX - beyond;
  return memory.subarray(start, start + length);
}
