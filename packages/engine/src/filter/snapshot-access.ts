// The `snapshot-access` driver: shows the frozen moment that the filter below keeps. Its child goes on as the
// live disk; a discard here says that nobody needs the range of the frozen one any more.
import { EngineError } from '../errors.ts';
import type { Extent } from '../extent.ts';
import type { ChildPermissions } from '../graph/permissions.ts';
import { PERMISSIONS_ALL } from '../graph/permissions.ts';
import type { BlockNode, SnapshotSource } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';

/** It uses nothing of its child as a disk. */
export const snapshotAccessPermissions: ChildPermissions = () => ({ uses: 0, shares: PERMISSIONS_ALL });

export class SnapshotAccess implements BlockNode {
  readonly driver = 'snapshot-access';
  /** As QEMU has it: discards are no writes to the contents, and writes are refused one by one. */
  readonly readOnly = false;
  readonly requestAlignmentBytes: number;
  readonly clusterSizeBytes = undefined;
  readonly #file: BlockNode;

  constructor(file: BlockNode) {
    this.#file = file;
    this.requestAlignmentBytes = file.requestAlignmentBytes;
  }

  get sizeBytes(): number {
    return this.#file.sizeBytes;
  }

  read(offset: number, buffer: Buffer): Pending {
    return this.#moment('read').read(offset, buffer);
  }

  write(): Pending {
    throw unsupported('write');
  }

  writeZeroes(): Pending {
    throw unsupported('write-zeroes');
  }

  discard(offset: number, length: number): Pending {
    return this.#moment('discard').discard(offset, length);
  }

  flush(): Pending {
    return undefined;
  }

  extents(offset: number, length: number): Extent[] | Promise<Extent[]> {
    return this.#moment('block-status').extents(offset, length);
  }

  async close(): Promise<void> {}

  #moment(op: string): SnapshotSource {
    const { snapshot } = this.#file;
    if (snapshot === undefined) throw unsupported(op);
    return snapshot;
  }
}

function unsupported(op: string): EngineError {
  return new EngineError('io', 'Operation not supported', { op, node: 'snapshot-access', errno: 'ENOTSUP' });
}
