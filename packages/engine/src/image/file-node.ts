// The `file` driver: a block node over one file of the host.

import type { Extent } from '../extent.ts';
import { NodeFile, type NodeFileOptions } from '../file/node-file.ts';
import type { BlockNode, WriteZeroesOptions } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';

export class FileNode implements BlockNode {
  readonly driver = 'file';
  readonly requestAlignmentBytes = 1;
  readonly clusterSizeBytes = undefined;
  readonly #file: NodeFile;

  constructor(file: NodeFile) {
    this.#file = file;
  }

  /** Opens or creates the file and locks it; rejects as `NodeFile.open` does. */
  static async open(path: string, options: NodeFileOptions = {}): Promise<FileNode> {
    return new FileNode(await NodeFile.open(path, options));
  }

  get path(): string {
    return this.#file.path;
  }

  get sizeBytes(): number {
    return this.#file.sizeBytes;
  }

  get readOnly(): boolean {
    return this.#file.readOnly;
  }

  read(offset: number, buffer: Buffer): Pending {
    return this.#file.read(offset, buffer);
  }

  write(offset: number, buffer: Buffer): Pending {
    return this.#file.write(offset, buffer);
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    return this.#file.writeZeroes(offset, length, options);
  }

  discard(offset: number, length: number): Pending {
    return this.#file.discard(offset, length);
  }

  flush(): Pending {
    return this.#file.readOnly ? undefined : this.#file.flush();
  }

  extents(offset: number, length: number): Extent[] {
    return this.#file.extents(offset, length);
  }

  resize(sizeBytes: number): Promise<void> {
    return this.#file.truncate(sizeBytes);
  }

  allocatedBytes(): Promise<number> {
    return this.#file.allocatedBytes();
  }

  /** Flushes what was written, then closes the file even where the flush failed, and rejects with that. */
  async close(): Promise<void> {
    try {
      await this.flush();
    } finally {
      await this.#file.close();
    }
  }
}
