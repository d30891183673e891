// The `anchor` driver: shows what is below it, unchanged. It stays where it is when snapshots and commits change
// the images below, and with it stay its bitmaps and the filters above.
import { type ChildPermissions, filterPermissions, PERMISSION } from '../graph/permissions.ts';
import type { BlockNode, HostRange } from '../node/block-node.ts';
import { PassThrough } from './pass-through.ts';

export class Anchor extends PassThrough implements BlockNode {
  readonly driver = 'anchor';

  hostRange(offset: number, length: number): HostRange | undefined {
    return this.child.hostRange?.(offset, length);
  }

  writeHostRange(offset: number, from: HostRange, length: number): Promise<void> | undefined {
    return this.child.writeHostRange?.(offset, from, length);
  }
}

/** Whoever else wrote to the images would get past the bitmaps, and past what is copied before it is changed. */
export const anchorPermissions: ChildPermissions = (role, total, parent) => {
  const { uses, shares } = filterPermissions(role, total, parent);
  return { uses, shares: shares & ~PERMISSION.write };
};
