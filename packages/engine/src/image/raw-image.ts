// The `raw` driver: the bytes of the child as they are, or a window of them.
import { EngineError } from '../errors.ts';
import type { Extent } from '../extent.ts';
import { NodeFile } from '../file/node-file.ts';
import { IMAGE_BYTES_MAX } from '../limits.ts';
import type { BlockNode, Child, HostRange, WriteZeroesOptions } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import { alignUp, SECTOR_BYTES } from '../units.ts';

export interface RawImageOptions {
  /** Where the image starts in the child, in bytes; default 0. */
  offsetBytes?: number;
  /** Size of the image; default: up to the end of the child, wherever that moves. */
  sizeBytes?: number;
  /** Default: as the child. */
  readOnly?: boolean;
  /** The size is counted in sectors: what is missing of the last one reads as zeroes. Default false. */
  wholeSectors?: boolean;
  /** The child belongs to somebody else and stays open at close; default false. */
  keepChildren?: boolean;
}

export class RawImage implements BlockNode {
  readonly driver = 'raw';
  readonly readOnly: boolean;
  readonly requestAlignmentBytes: number;
  readonly children: readonly Child[];
  readonly #file: BlockNode;
  readonly #offsetBytes: number;
  readonly #fixedSizeBytes: number | undefined;
  readonly #wholeSectors: boolean;
  readonly #keepChildren: boolean;

  private constructor(file: BlockNode, options: RawImageOptions) {
    this.#file = file;
    this.#offsetBytes = options.offsetBytes ?? 0;
    this.#fixedSizeBytes = options.sizeBytes;
    this.#wholeSectors = options.wholeSectors ?? false;
    this.#keepChildren = options.keepChildren ?? false;
    this.readOnly = options.readOnly ?? file.readOnly;
    this.requestAlignmentBytes = file.requestAlignmentBytes;
    this.children = [{ role: 'file', node: file }];
  }

  /** Throws `invalid-argument` where the window does not lie in the child or is not aligned as it asks. */
  static open(file: BlockNode, options: RawImageOptions = {}): RawImage {
    const offset = options.offsetBytes ?? 0;
    const size = options.sizeBytes ?? file.sizeBytes - offset;
    const wellFormed = Number.isSafeInteger(offset) && Number.isSafeInteger(size) && offset >= 0 && size >= 0;
    if (!wellFormed || offset + size > file.sizeBytes) {
      throw new EngineError(
        'invalid-argument',
        `raw window of ${size} bytes at ${offset} is not in the ${file.sizeBytes} bytes of its ${file.driver} child`,
        { op: 'open', offset, length: size },
      );
    }
    if (offset % file.requestAlignmentBytes !== 0) {
      throw new EngineError(
        'invalid-argument',
        `raw window at ${offset} is not aligned to the child's ${file.requestAlignmentBytes} bytes`,
        { op: 'open', offset },
      );
    }
    if (options.readOnly === false && file.readOnly) {
      throw new EngineError('invalid-argument', 'a raw image over a read-only child cannot be writable', {
        op: 'open',
      });
    }
    return new RawImage(file, options);
  }

  /** The child's: raw over a format shows that format's. */
  get clusterSizeBytes(): number | undefined {
    return this.#file.clusterSizeBytes;
  }

  get sizeBytes(): number {
    const sizeBytes = this.#fixedSizeBytes ?? this.#file.sizeBytes - this.#offsetBytes;
    return this.#wholeSectors ? alignUp(sizeBytes, SECTOR_BYTES) : sizeBytes;
  }

  read(offset: number, buffer: Buffer): Pending {
    this.#file.debugEvent?.('read_aio');
    const there = this.#file.sizeBytes - this.#offsetBytes - offset;
    if (there < buffer.length && this.#wholeSectors) {
      // The part of the last sector that the file does not have.
      buffer.fill(0, there);
      return this.#file.read(this.#offsetBytes + offset, buffer.subarray(0, there));
    }
    return this.#file.read(this.#offsetBytes + offset, buffer);
  }

  write(offset: number, buffer: Buffer): Pending {
    this.#file.debugEvent?.('write_aio');
    return this.#file.write(this.#offsetBytes + offset, buffer);
  }

  hostRange(offset: number, length: number): HostRange | undefined {
    return this.#file.hostRange?.(this.#offsetBytes + offset, length);
  }

  writeHostRange(offset: number, from: HostRange, length: number): Promise<void> | undefined {
    return this.#file.writeHostRange?.(this.#offsetBytes + offset, from, length);
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    return this.#file.writeZeroes(this.#offsetBytes + offset, length, options);
  }

  discard(offset: number, length: number): Pending {
    return this.#file.discard(this.#offsetBytes + offset, length);
  }

  flush(): Pending {
    return this.#file.flush();
  }

  extents(offset: number, length: number): Extent[] | Promise<Extent[]> {
    const found = this.#file.extents(this.#offsetBytes + offset, length);
    if (this.#offsetBytes === 0) return found;
    return Array.isArray(found) ? this.#shift(found) : found.then(extents => this.#shift(extents));
  }

  #shift(extents: Extent[]): Extent[] {
    return extents.map(extent => ({ ...extent, offset: extent.offset - this.#offsetBytes }));
  }

  /** Rejects with `unsupported` for an image of fixed size or over a child that cannot change its own. */
  async resize(sizeBytes: number): Promise<void> {
    const refuse = (text: string) => new EngineError('unsupported', text, { op: 'resize' });
    if (this.#fixedSizeBytes !== undefined) throw refuse('Cannot resize fixed-size raw disks');
    if (this.#file.resize === undefined) throw refuse('Image format driver does not support resize');
    await this.#file.resize(this.#offsetBytes + sizeBytes);
  }

  /** Of the whole child; its size where the child cannot tell. */
  async allocatedBytes(): Promise<number> {
    return (await this.#file.allocatedBytes?.()) ?? this.#file.sizeBytes;
  }

  async close(): Promise<void> {
    if (!this.#keepChildren) await this.#file.close();
    else if (!this.readOnly) await this.#file.flush();
  }
}

/**
 * Makes a sparse file of that size, durable in itself (its folder entry is the caller's to make so).
 * Rejects with kind `exists`, `invalid-argument` or `io`; nothing stays behind then.
 */
export async function createRawFile(path: string, sizeBytes: number): Promise<void> {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0 || sizeBytes > IMAGE_BYTES_MAX) {
    throw new EngineError(
      'invalid-argument',
      `size ${sizeBytes} of ${path} is not between 0 and ${IMAGE_BYTES_MAX} bytes`,
      { op: 'create', path },
    );
  }
  const file = await NodeFile.open(path, { create: 'exclusive', sizeBytes });
  try {
    await file.flush();
  } finally {
    await file.close();
  }
}
