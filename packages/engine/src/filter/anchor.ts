// The `anchor` driver: shows what is below it, unchanged. It stays where it is when snapshots and commits change
// the images below, and with it stay its bitmaps and the filters above.
import { type ChildPermissions, filterPermissions, PERMISSION } from '../graph/permissions.ts';
import type { BlockNode, HostRange, WriteZeroesOptions } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import { PassThrough } from './pass-through.ts';

/** Asked before a change reaches the images. */
export interface WriteGate {
  /** Undefined: the change may go on at once. Where it rejects, the change fails with that, and nothing is written. */
  before(offset: number, length: number): Pending;
}

export class Anchor extends PassThrough implements BlockNode {
  readonly driver = 'anchor';
  /** To be set and taken away with nothing in flight. */
  gate: WriteGate | undefined;

  override write(offset: number, buffer: Buffer): Pending {
    const wait = this.gate?.before(offset, buffer.length);
    if (wait === undefined) return this.child.write(offset, buffer);
    return wait.then(() => this.child.write(offset, buffer));
  }

  override writeCompressed(offset: number, buffer: Buffer): Pending {
    const wait = this.gate?.before(offset, buffer.length);
    if (wait === undefined) return this.child.writeCompressed!(offset, buffer);
    return wait.then(() => this.child.writeCompressed!(offset, buffer));
  }

  override writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    const wait = this.gate?.before(offset, length);
    if (wait === undefined) return this.child.writeZeroes(offset, length, options);
    return wait.then(() => this.child.writeZeroes(offset, length, options));
  }

  override discard(offset: number, length: number): Pending {
    const wait = this.gate?.before(offset, length);
    if (wait === undefined) return this.child.discard(offset, length);
    return wait.then(() => this.child.discard(offset, length));
  }

  hostRange(offset: number, length: number): HostRange | undefined {
    return this.child.hostRange?.(offset, length);
  }

  writeHostRange(offset: number, from: HostRange, length: number): Promise<void> | undefined {
    const wait = this.gate?.before(offset, length);
    if (wait === undefined) return this.child.writeHostRange?.(offset, from, length);
    // Whether the child can is known only when it is asked: until the gate opens the caller copies by itself.
    wait.catch(() => undefined);
    return undefined;
  }
}

/** Whoever else wrote to the images would get past the bitmaps, and past what is copied before it is changed. */
export const anchorPermissions: ChildPermissions = (role, total, parent) => {
  const { uses, shares } = filterPermissions(role, total, parent);
  return { uses, shares: shares & ~PERMISSION.write };
};
