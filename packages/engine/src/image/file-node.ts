// The `file` driver: a block node over one file of the host.

import type { Extent } from '../extent.ts';
import { NodeFile, type NodeFileOptions } from '../file/node-file.ts';
import type { LockedPermissions } from '../file/permission-locks.ts';
import type { BlockNode, WriteZeroesOptions } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import { alignUp, SECTOR_BYTES } from '../units.ts';

export interface FileNodeOptions extends NodeFileOptions {
  /** The size is counted in sectors: what is missing of the last one reads as zeroes. Default false. */
  wholeSectors?: boolean;
  /** Flushes return at once: what was written survives the end of the process, not a power cut. Default false. */
  noFlush?: boolean;
  /** Other processes may do to the file as they like. Default false. */
  sharesAll?: boolean;
}

export class FileNode implements BlockNode {
  readonly driver = 'file';
  readonly requestAlignmentBytes = 1;
  readonly clusterSizeBytes = undefined;
  readonly #file: NodeFile;
  readonly #options: FileNodeOptions;

  constructor(file: NodeFile, options: FileNodeOptions = {}) {
    this.#file = file;
    this.#options = options;
  }

  /** Opens or creates the file and locks it; rejects as `NodeFile.open` does. */
  static async open(path: string, options: FileNodeOptions = {}): Promise<FileNode> {
    return new FileNode(await NodeFile.open(path, options), options);
  }

  get path(): string {
    return this.#file.path;
  }

  get sizeBytes(): number {
    const { sizeBytes } = this.#file;
    return this.#options.wholeSectors === true ? alignUp(sizeBytes, SECTOR_BYTES) : sizeBytes;
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
    return this.#file.readOnly || this.#options.noFlush === true ? undefined : this.#file.flush();
  }

  extents(offset: number, length: number): Extent[] {
    return this.#file.extents(offset, length);
  }

  /** As NodeFile.prepareReopen. */
  prepareReopen(options: { readOnly: boolean }): Promise<{ commit(): void; abort(): void }> {
    return this.#file.prepareReopen(options);
  }

  setPermissions({ uses, shares }: LockedPermissions): () => void {
    const { locking, sharesAll } = this.#options;
    if (locking !== 'permissions' || sharesAll === true) return () => {};
    return this.#file.lockPermissions({ uses, shares });
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
