// Who may do what to a block node, as in QEMU: every user of a node states what it uses and what it lets
// the other users do. Two users conflict where one uses what the other does not share.
import { EngineError } from '../errors.ts';

export const PERMISSION = {
  /** What is read is the disk as the guest sees it. */
  consistentRead: 1,
  write: 2,
  /** Writes that leave the visible contents as they are, such as those of a commit job. */
  writeUnchanged: 4,
  resize: 8,
  /** Changes of the graph below. */
  graphMod: 16,
} as const;

export const PERMISSIONS_ALL = 31;

const NAMES: readonly [number, string][] = [
  [PERMISSION.consistentRead, 'consistent read'],
  [PERMISSION.write, 'write'],
  [PERMISSION.writeUnchanged, 'write unchanged'],
  [PERMISSION.resize, 'resize'],
  [PERMISSION.graphMod, 'change graph'],
];

/** Masks of PERMISSION. */
export interface PermissionMasks {
  uses: number;
  shares: number;
}

/** One user of a node: an edge from a parent node, or an attachment from outside the graph. */
export interface NodeUser extends PermissionMasks {
  /** For messages: `export 'vol-a'`, `block node 'backup-filter'`. */
  readonly user: string;
}

/**
 * How a driver turns what its own users do into what it does to a child.
 * @param total uses: of any user; shares: of every user.
 * @param inserted the node is a filter that stands between its child and all other users of it.
 */
export type ChildPermissions = (role: string, total: PermissionMasks, inserted: boolean) => PermissionMasks;

/** A filter does to its child what is done to it. */
export const filterPermissions: ChildPermissions = (_role, total) => ({ ...total });

const SHARED_BELOW_FORMAT = PERMISSION.consistentRead | PERMISSION.writeUnchanged | PERMISSION.graphMod;

/** An image format owns its file, which nobody else may write; a backing file must not change at all. */
export const formatPermissions: ChildPermissions = (role, total) => {
  const writes = (total.uses & (PERMISSION.write | PERMISSION.writeUnchanged | PERMISSION.resize)) !== 0;
  const uses = role === 'backing' || !writes ? 0 : PERMISSION.write | PERMISSION.resize;
  return { uses: PERMISSION.consistentRead | uses, shares: SHARED_BELOW_FORMAT };
};

/**
 * Copy-before-write: nobody may write to the source past the filter, or the frozen moment would be lost
 * (scenario BK-V13); the target is written by the filter alone.
 */
export const copyBeforeWritePermissions: ChildPermissions = (role, total, inserted) => {
  if (role === 'target') return { uses: PERMISSION.write, shares: SHARED_BELOW_FORMAT };
  if (!inserted) return { uses: PERMISSION.consistentRead, shares: PERMISSIONS_ALL };
  return {
    uses: total.uses | PERMISSION.consistentRead,
    shares: total.shares & ~(PERMISSION.write | PERMISSION.resize),
  };
};

/** Throws kind `conflict` naming both users, when any two users of `node` exclude each other. */
export function assertNoConflict(node: string, users: Iterable<NodeUser>): void {
  const all = [...users];
  for (const one of all) {
    for (const other of all) {
      if (one === other) continue;
      const clash = one.uses & ~other.shares;
      if (clash === 0) continue;
      const name = NAMES.find(([bit]) => (clash & bit) !== 0)?.[1];
      throw new EngineError(
        'conflict',
        `Permission conflict on node '${node}': '${name}' both required by ${one.user} and unshared by ${other.user}`,
        { node },
      );
    }
  }
}

export function totalPermissions(users: Iterable<NodeUser>): PermissionMasks {
  let uses = 0;
  let shares = PERMISSIONS_ALL;
  for (const user of users) {
    uses |= user.uses;
    shares &= user.shares;
  }
  return { uses, shares };
}
