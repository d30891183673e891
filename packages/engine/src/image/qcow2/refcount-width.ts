// Reference counts of every width that the format has: 1 to 64 bits, packed from the least significant bit
// of each byte on below 8 bits, big-endian above. Section "Host cluster management", refcount block entry.

/** Counts above it cannot be told apart in a double; no image comes near. */
const COUNT_MAX = Number.MAX_SAFE_INTEGER;

export class RefcountWidth {
  readonly bits: number;
  /** The largest count that can be stored. */
  readonly max: number;

  /** `order` is the header's refcount_order, 0 to 6. */
  constructor(order: number) {
    this.bits = 2 ** order;
    this.max = order === 6 ? COUNT_MAX : 2 ** this.bits - 1;
  }

  /** Counts that one refcount block holds. */
  perBlock(clusterBytes: number): number {
    return (clusterBytes * 8) / this.bits;
  }

  get(block: Buffer, index: number): number {
    switch (this.bits) {
      case 16:
        return block.readUInt16BE(index * 2);
      case 8:
        return block[index]!;
      case 32:
        return block.readUInt32BE(index * 4);
      case 64: {
        const count = block.readBigUInt64BE(index * 8);
        return count > BigInt(COUNT_MAX) ? COUNT_MAX : Number(count);
      }
      default: {
        const perByte = 8 / this.bits;
        return (block[Math.floor(index / perByte)]! >> ((index % perByte) * this.bits)) & this.max;
      }
    }
  }

  /** `count` is at most `max`. */
  set(block: Buffer, index: number, count: number): void {
    switch (this.bits) {
      case 16:
        block.writeUInt16BE(count, index * 2);
        return;
      case 8:
        block[index] = count;
        return;
      case 32:
        block.writeUInt32BE(count, index * 4);
        return;
      case 64:
        block.writeBigUInt64BE(BigInt(count), index * 8);
        return;
      default: {
        const perByte = 8 / this.bits;
        const byte = Math.floor(index / perByte);
        const shift = (index % perByte) * this.bits;
        block[byte] = (block[byte]! & ~(this.max << shift)) | (count << shift);
      }
    }
  }

  /** The bytes of a block that hold the counts from `first` up to `end`. */
  bytes(first: number, end: number): { from: number; to: number } {
    return { from: Math.floor((first * this.bits) / 8), to: Math.ceil((end * this.bits) / 8) };
  }

  /** Index of the first count of 0 at or after `from`, or `end`. */
  nextZero(block: Buffer, from: number, end: number): number {
    let index = from;
    while (index < end && this.get(block, index) !== 0) index++;
    return index;
  }
}
