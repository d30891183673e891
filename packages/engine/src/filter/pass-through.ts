// The base of a filter: does to its child whatever is done to it. A filter overrides what it changes.
import type { Extent } from '../extent.ts';
import type { BlockNode, SnapshotSource, WriteZeroesOptions } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';

export abstract class PassThrough implements BlockNode {
  abstract readonly driver: string;
  protected readonly child: BlockNode;

  constructor(child: BlockNode) {
    this.child = child;
  }

  get sizeBytes(): number {
    return this.child.sizeBytes;
  }
  get readOnly(): boolean {
    return this.child.readOnly;
  }
  get requestAlignmentBytes(): number {
    return this.child.requestAlignmentBytes;
  }
  get clusterSizeBytes(): number | undefined {
    return this.child.clusterSizeBytes;
  }
  get canCompress(): boolean {
    return this.child.canCompress ?? false;
  }
  get snapshot(): SnapshotSource | undefined {
    return this.child.snapshot;
  }

  read(offset: number, buffer: Buffer): Pending {
    return this.child.read(offset, buffer);
  }
  write(offset: number, buffer: Buffer): Pending {
    return this.child.write(offset, buffer);
  }
  /** To be called only where `canCompress` is true. */
  writeCompressed(offset: number, buffer: Buffer): Pending {
    return this.child.writeCompressed!(offset, buffer);
  }
  writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    return this.child.writeZeroes(offset, length, options);
  }
  discard(offset: number, length: number): Pending {
    return this.child.discard(offset, length);
  }
  flush(): Pending {
    return this.child.flush();
  }
  extents(offset: number, length: number): Extent[] | Promise<Extent[]> {
    return this.child.extents(offset, length);
  }
  async resize(sizeBytes: number): Promise<void> {
    await this.child.resize?.(sizeBytes);
  }
  async allocatedBytes(): Promise<number> {
    return (await this.child.allocatedBytes?.()) ?? this.child.sizeBytes;
  }
  debugEvent(event: string): void {
    this.child.debugEvent?.(event);
  }
  cancelInFlight(): void {
    this.child.cancelInFlight?.();
  }
  /** The child is the graph's to close. */
  async close(): Promise<void> {}
}
