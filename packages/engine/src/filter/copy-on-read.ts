// Stands above the image that a stream job fills. While the job copies a range into the image nobody else may change
// it there, or what the job has read would overwrite what a guest has just written: `guard` sees to that at the image
// itself, whose users need not come through the filter.
import { RequestList } from '../copy/request-list.ts';
import { type ChildPermissions, filterPermissions, PERMISSION } from '../graph/permissions.ts';
import type { BlockNode } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import { PassThrough } from './pass-through.ts';

export class CopyOnRead extends PassThrough {
  readonly driver = 'copy-on-read';
  readonly #copies = new RequestList();
  readonly #writes = new RequestList();

  get image(): BlockNode {
    return this.child;
  }

  /** Runs `section` while nobody else changes the range. */
  async alone<T>(offset: number, length: number, section: () => Promise<T>): Promise<T> {
    const end = offset + length;
    // Whoever comes from here on waits, so those that are there come to an end.
    const request = this.#copies.start(offset, length);
    try {
      for (;;) {
        const write = this.#writes.overlapping(offset, end);
        if (write === undefined) break;
        await this.#writes.ended(write);
      }
      return await section();
    } finally {
      this.#copies.finish(request);
    }
  }

  /** Begins a change of the image when no copy is under way in its range. */
  guard(offset: number, length: number, change: () => Pending): Pending {
    if (this.#copies.overlapping(offset, offset + length) === undefined) {
      return this.#tracked(offset, length, change);
    }
    return this.#afterCopies(offset, length, change);
  }

  async #afterCopies(offset: number, length: number, change: () => Pending): Promise<void> {
    for (;;) {
      const copy = this.#copies.overlapping(offset, offset + length);
      if (copy === undefined) return this.#tracked(offset, length, change);
      await this.#copies.ended(copy);
    }
  }

  #tracked(offset: number, length: number, change: () => Pending): Pending {
    const pending = change();
    if (pending === undefined) return undefined;
    const request = this.#writes.start(offset, length);
    return pending.finally(() => this.#writes.finish(request));
  }
}

/** What the job writes leaves the contents as they are. */
export const copyOnReadPermissions: ChildPermissions = (role, total, parent) => {
  const passed = filterPermissions(role, total, parent);
  return { uses: passed.uses | (parent.inserted ? PERMISSION.writeUnchanged : 0), shares: passed.shares };
};
