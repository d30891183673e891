// The `file` driver: a block node over one file of the host.

import type { Extent } from '../extent.ts';
import { type FileReopenOptions, NodeFile, type NodeFileOptions } from '../file/node-file.ts';
import type { LockedPermissions } from '../file/permission-locks.ts';
import type { BlockNode, HostRange, WriteZeroesOptions } from '../node/block-node.ts';
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
  readonly clusterSizeBytes = undefined;
  readonly #file: NodeFile;
  readonly #options: FileNodeOptions;
  #noFlush: boolean;

  constructor(file: NodeFile, options: FileNodeOptions = {}) {
    this.#file = file;
    this.#options = options;
    this.#noFlush = options.noFlush ?? false;
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

  /** Any range will do; sectors, past the page cache, spare reading the rest of a block first. */
  get requestAlignmentBytes(): number {
    return this.#file.direct ? SECTOR_BYTES : 1;
  }

  read(offset: number, buffer: Buffer): Pending {
    return this.#file.read(offset, buffer);
  }

  write(offset: number, buffer: Buffer): Pending {
    return this.#file.write(offset, buffer);
  }

  hostRange(offset: number, length: number): HostRange | undefined {
    // Past the page cache the kernel wants whole blocks; past the end there is nothing.
    if (this.#file.direct || offset + length > this.#file.sizeBytes) return undefined;
    return { file: this.#file, offset };
  }

  writeHostRange(offset: number, from: HostRange, length: number): Promise<void> | undefined {
    return this.#file.direct ? undefined : this.#file.copyFrom(from.file, from.offset, offset, length);
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    return this.#file.writeZeroes(offset, length, options);
  }

  discard(offset: number, length: number): Pending {
    return this.#file.discard(offset, length);
  }

  flush(): Pending {
    return this.#file.readOnly || this.#noFlush ? undefined : this.#file.flush();
  }

  extents(offset: number, length: number): Extent[] {
    return this.#file.extents(offset, length);
  }

  /** Past the page cache. */
  get direct(): boolean {
    return this.#file.direct;
  }

  get noFlush(): boolean {
    return this.#noFlush;
  }

  /** As NodeFile.prepareReopen. */
  async prepareReopen(
    options: FileReopenOptions & { noFlush: boolean },
  ): Promise<{ commit(): void; abort(): void }> {
    const { commit, abort } = await this.#file.prepareReopen(options);
    return {
      commit: () => {
        commit();
        this.#noFlush = options.noFlush;
      },
      abort,
    };
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
