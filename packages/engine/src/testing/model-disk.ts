// The plainest disk there is, to compare a block node with: one buffer, and which bytes are certain.
import { strict as assert } from 'node:assert';

export class ModelDisk {
  readonly bytes: Buffer;

  constructor(sizeBytes: number) {
    this.bytes = Buffer.alloc(sizeBytes);
  }

  get sizeBytes(): number {
    return this.bytes.length;
  }

  write(offset: number, buffer: Buffer): void {
    buffer.copy(this.bytes, offset);
  }

  writeZeroes(offset: number, length: number): void {
    this.bytes.fill(0, offset, offset + length);
  }

  /** A copy of the range. */
  read(offset: number, length: number): Buffer {
    return Buffer.from(this.bytes.subarray(offset, offset + length));
  }

  /** Throws with the first differing byte where `actual` is not what the model holds at `offset`. */
  assertEqual(offset: number, actual: Buffer, what: string): void {
    const expected = this.bytes.subarray(offset, offset + actual.length);
    if (expected.equals(actual)) return;
    const at = actual.findIndex((byte, index) => byte !== expected[index]);
    assert.fail(`${what}: byte ${offset + at} is ${actual[at]}, the model has ${expected[at]}`);
  }
}
