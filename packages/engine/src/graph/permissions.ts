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
  /** What the user calls the edge: `file`, `root`, … */
  readonly role: string;
  /** As QEMU names it: `node 'disk'`, `an unnamed block device`. */
  readonly userText: string;
  /** For people: `export 'vol-a'`, `block node 'backup-filter'`. */
  readonly user: string;
}

/** What of a node decides about what it does to its children. */
export interface ParentState {
  /** It is a filter that stands between its child and all other users of it. */
  readonly inserted: boolean;
  /** Anybody uses it at all. */
  readonly used: boolean;
  /** It was opened for writing. */
  readonly writable: boolean;
}

/**
 * How a driver turns what its own users do into what it does to a child.
 * @param total uses: of any user; shares: of every user.
 */
export type ChildPermissions = (role: string, total: PermissionMasks, parent: ParentState) => PermissionMasks;

const PASSED_ON =
  PERMISSION.consistentRead | PERMISSION.write | PERMISSION.writeUnchanged | PERMISSION.resize;
const CHANGES = PERMISSION.write | PERMISSION.resize;

/** A filter does to its child what is done to it. */
export const filterPermissions: ChildPermissions = (_role, total) => ({
  uses: total.uses & PASSED_ON,
  shares: (total.shares & PASSED_ON) | PERMISSION.graphMod,
});

/**
 * An image format owns its file, which nobody else may write; being open for writing is enough to write to
 * it. A backing file may change where all users of the image can live with that.
 */
export const formatPermissions: ChildPermissions = (role, total, parent) => {
  if (role === 'backing') {
    const changes = (total.shares & PERMISSION.write) === 0 ? 0 : CHANGES;
    return { uses: total.uses & PERMISSION.consistentRead, shares: (PERMISSIONS_ALL & ~CHANGES) | changes };
  }
  const passed = filterPermissions(role, total, parent);
  return {
    uses: passed.uses | PERMISSION.consistentRead | (parent.writable ? CHANGES : 0),
    shares: passed.shares & ~CHANGES,
  };
};

/**
 * Copy-before-write: nobody may write to the source past the filter, or the frozen moment would be lost
 * (scenario BK-V13). The target's size is looked at once: it must not change.
 */
export const copyBeforeWritePermissions: ChildPermissions = (role, total, parent) => {
  if (role === 'target') return { uses: PERMISSION.write, shares: PERMISSIONS_ALL & ~PERMISSION.resize };
  const passed = filterPermissions(role, total, parent);
  if (!parent.used) return passed;
  const reads = (passed.uses & PERMISSION.write) === 0 ? 0 : PERMISSION.consistentRead;
  return { uses: passed.uses | reads, shares: passed.shares & ~CHANGES };
};

function names(mask: number): string {
  return NAMES.filter(([bit]) => (mask & bit) !== 0)
    .map(([, name]) => name)
    .join(', ');
}

/** Throws kind `conflict` naming both users, when any two users of `node` exclude each other. */
export function assertNoConflict(node: string, users: Iterable<NodeUser>): void {
  // The youngest first: with several conflicts QEMU tells that one.
  const all = [...users].reverse();
  for (const one of all) {
    for (const other of all) {
      if (one === other) continue;
      const clash = other.uses & ~one.shares;
      if (clash !== 0) throw conflict(node, other, one, names(clash));
    }
  }
}

function conflict(node: string, user: NodeUser, other: NodeUser, what: string): EngineError {
  const text =
    `Permission conflict on node '${node}': permissions '${what}' are both required by ` +
    `${describe(node, user)} and unshared by ${describe(node, other)}.`;
  const hint = `${capitalised(user.user)} wants '${what}', and ${other.user} excludes it: end one of them first.`;
  return new EngineError('conflict', text, { node, hint });
}

function describe(node: string, { userText, role }: NodeUser): string {
  return `${userText} (uses node '${node}' as '${role}' child)`;
}

function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
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
