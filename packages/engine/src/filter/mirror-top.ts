// Stands above a disk that a mirror job copies, in the place where the disk's users meet the target in the end. With
// write-blocking it makes guests' changes on the target as well, before they hear of the end.
import type { CopyFailure } from '../copy/block-copy.ts';
import type { MirrorCopy } from '../copy/mirror-copy.ts';
import {
  type ChildPermissions,
  filterPermissions,
  PERMISSION,
  PERMISSIONS_ALL,
} from '../graph/permissions.ts';
import type { BlockNode, WriteZeroesOptions } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import { PassThrough } from './pass-through.ts';

/** background: guests' writes are copied later. write-blocking: they wait until the target has them too. */
export const COPY_MODES = ['background', 'write-blocking'] as const;
export type CopyMode = (typeof COPY_MODES)[number];

/** The job behind the filter. */
export interface Mirror {
  readonly copy: MirrorCopy;
  readonly target: BlockNode;
  readonly copyMode: CopyMode;
  /** A guest has changed source and target; `failure`: the target does not have it. */
  changed(failure: CopyFailure | undefined): void;
}

export class MirrorTop extends PassThrough {
  readonly driver = 'mirror_top';
  /** Undefined before the job runs and after it has ended. */
  mirror: Mirror | undefined;

  get source(): BlockNode {
    return this.child;
  }

  override write(offset: number, buffer: Buffer): Pending {
    return this.#change(offset, buffer.length, node => node.write(offset, buffer));
  }
  override writeCompressed(offset: number, buffer: Buffer): Pending {
    const source = (node: BlockNode) => node.writeCompressed!(offset, buffer);
    return this.#change(offset, buffer.length, source, node => node.write(offset, buffer));
  }
  override writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    return this.#change(offset, length, node => node.writeZeroes(offset, length, options));
  }

  #change(
    offset: number,
    length: number,
    onSource: (node: BlockNode) => Pending,
    onTarget: (node: BlockNode) => Pending = onSource,
  ): Pending {
    const { mirror } = this;
    if (mirror?.copyMode !== 'write-blocking') return onSource(this.child);
    return this.#changeBoth(mirror, { offset, length, onSource, onTarget });
  }

  async #changeBoth(mirror: Mirror, { offset, length, onSource, onTarget }: GuestChange): Promise<void> {
    const failure = await mirror.copy.changeBoth(offset, length, {
      source: () => onSource(this.child),
      target: () => onTarget(mirror.target),
    });
    mirror.changed(failure);
  }
}

interface GuestChange {
  readonly offset: number;
  readonly length: number;
  readonly onSource: (node: BlockNode) => Pending;
  readonly onTarget: (node: BlockNode) => Pending;
}

/**
 * Of an active commit the target lies below the source: whoever uses the filter lets it be written. What lies between
 * shows no disk that makes sense meanwhile, so that nobody may rely on reading it.
 */
export const commitMirrorPermissions: ChildPermissions = (role, total, parent) => ({
  uses: filterPermissions(role, total, parent).uses & ~PERMISSION.consistentRead,
  shares: PERMISSIONS_ALL,
});
