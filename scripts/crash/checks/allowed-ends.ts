// What an operation may be refused with, and what its run may fail with: each code with the reason why it is right
// here. Everything else is a fault.
import { FAILED_PARTS, type Operation } from '../operation.ts';
import { NODES } from '../world.ts';

export interface Circumstances {
  readonly victim: string;
  /** Of the round. */
  readonly operations: readonly Operation[];
  /** Started by rules of replication; they take replicas away. */
  readonly rulePrunes: number;
}

interface Allowed {
  /** Kinds of operations, as they begin. */
  readonly kinds: readonly string[];
  readonly why: string;
  readonly when: (operation: Operation, circumstances: Circumstances) => boolean;
}

const STORAGE_NODES: readonly string[] = NODES;
export const CORDONS = 'cordon';
export const DRAINS = 'drain-storage-node';
/** Of a group, with its backups. */
export const DELETES_BACKUPS = 'delete-group-backup';
/** What takes backups away, with checkpoints that have lost their last. */
const REMOVALS: readonly string[] = ['prune', 'delete-backup', DELETES_BACKUPS];
/** They are about every disk, not only about the one that they are counted for. */
const OF_ALL_DISKS = /-group|^fire-policy$/;

/** What a run has done is kept by storage nodes: the end of nobody else costs it. */
export function storageNodeDied(_: Operation, { victim }: Circumstances): boolean {
  return STORAGE_NODES.includes(victim);
}

function concernsBoth(one: Operation, other: Operation): boolean {
  return one.disk === other.disk || [one, other].some(({ kind }) => OF_ALL_DISKS.test(kind));
}

export function backupsWereRemoved(operation: Operation, { operations }: Circumstances): boolean {
  return operations.some(one => REMOVALS.includes(one.kind) && concernsBoth(one, operation));
}

/** Also by a rule of replication, which removes replicas alone, with checkpoints that have lost their last. */
function anyWentAway(operation: Operation, circumstances: Circumstances): boolean {
  return circumstances.rulePrunes > 0 || backupsWereRemoved(operation, circumstances);
}

/** By the other lane of its disk. */
export function checkpointsWereRemoved(operation: Operation, circumstances: Circumstances): boolean {
  const isDeleted = circumstances.operations.some(
    one => one !== operation && concernsBoth(one, operation) && one.kind === 'delete-checkpoint',
  );
  return isDeleted || anyWentAway(operation, circumstances);
}

/** Of a replica. */
const NOT_BEGUN = /^replica: .*(nothing can be built on that now|nobody may begin to use it)/;

const always = () => true;

function wasDrained(_: Operation, { operations }: Circumstances): boolean {
  return operations.some(({ kind }) => kind === DRAINS);
}

function wasCordoned(operation: Operation, circumstances: Circumstances): boolean {
  return (
    wasDrained(operation, circumstances) || circumstances.operations.some(({ kind }) => kind === CORDONS)
  );
}

const REFUSALS: Readonly<Record<string, readonly Allowed[]>> = {
  'storage-node-unreachable': [{ kinds: [''], why: 'it is dead, and known to be', when: storageNodeDied }],
  'catalog-unavailable': [
    { kinds: [''], why: 'PostgreSQL is dead', when: (_, { victim }) => victim === 'postgres' },
  ],
  'storage-node-cordoned': [
    { kinds: ['new-volume', 'restore-', 'move-volume'], why: 'nothing new goes there', when: wasCordoned },
  ],
  'volume-not-ready': [
    { kinds: ['move-volume', 'delete-volume', 'restore-in-place'], why: 'it is drained', when: wasDrained },
  ],
  'volume-busy': [
    { kinds: ['move-volume', 'delete-volume', 'restore-in-place'], why: 'it is drained', when: wasDrained },
  ],
  'checkpoint-in-use': [
    {
      kinds: ['delete-checkpoint', 'delete-group'],
      why: 'an increment is being made from it',
      when: always,
    },
  ],
  'checkpoint-not-found': [
    {
      kinds: ['backup-incremental', 'backup-differential'],
      why: 'no checkpoint with a backup is left: nothing is full that was not asked to be',
      when: always,
    },
    {
      kinds: ['delete-checkpoint', 'rename-checkpoint'],
      why: 'the other lane took it away',
      when: checkpointsWereRemoved,
    },
  ],
  'checkpoint-not-ready': [
    {
      kinds: ['delete-checkpoint', 'rename-checkpoint'],
      why: 'it is being taken away by a request that was not answered',
      when: checkpointsWereRemoved,
    },
    {
      kinds: ['delete-group', 'delete-checkpoint', 'rename-checkpoint'],
      why: 'a group goes, or one of its members',
      when: always,
    },
  ],
  'group-not-found': [{ kinds: ['delete-group'], why: 'another request deleted it', when: always }],
  'group-not-ready': [{ kinds: ['delete-group'], why: 'another request deletes it', when: always }],
  'backup-in-use': [
    { kinds: ['delete-backup', 'delete-group'], why: 'an increment is being made over it', when: always },
    { kinds: ['replicate'], why: 'its replica is being made, or is on its way out', when: always },
  ],
  'backup-exists': [{ kinds: ['replicate'], why: 'it was replicated before', when: always }],
  'backup-not-usable': [
    {
      kinds: ['restore-', 'verify', 'backup-', 'replicate'],
      why: 'it, or the base, is being removed',
      when: anyWentAway,
    },
    { kinds: ['replicate'], why: 'what it stands on is on its way out, here or there', when: always },
    { kinds: ['delete-group'], why: 'a member is on its way out', when: anyWentAway },
  ],
  'backup-not-found': [{ kinds: ['audit'], why: 'there is none to compare with', when: always }],
};

const FAILURES: Readonly<Record<string, readonly Allowed[]>> = {
  'job-interrupted': [{ kinds: [''], why: 'jobs end with their storage node', when: storageNodeDied }],
  'io-error': [{ kinds: [''], why: 'the other side of a copy died', when: storageNodeDied }],
  'storage-node-unreachable': [
    { kinds: [''], why: 'it stayed away for longer than its caller waits', when: storageNodeDied },
  ],
  'group-interrupted': [
    {
      kinds: ['create-group'],
      why: 'whoever took its instant died, or lost the run',
      when: (_, { victim }) => victim === 'worker' || victim === 'postgres',
    },
  ],
  'group-fence-broken': [
    { kinds: ['create-group'], why: 'fences end with their process', when: storageNodeDied },
  ],
  'group-not-found': [
    { kinds: ['create-group'], why: 'what was prepared is undone at the start', when: storageNodeDied },
  ],
  'group-state': [
    { kinds: ['create-group'], why: 'what was prepared is undone at the start', when: storageNodeDied },
  ],
  'group-incomplete': [
    {
      kinds: ['create-group-backup'],
      why: 'a moment ended with its storage node, or the other side of a copy',
      when: storageNodeDied,
    },
  ],
  'firing-failed': [
    { kinds: ['fire-policy'], why: 'its storage node died as often as it was tried', when: storageNodeDied },
    {
      kinds: ['fire-policy'],
      why: 'what its replicas were to stand on is on its way out of their repository',
      when: ({ error }) => error!.message.split(FAILED_PARTS).every(part => NOT_BEGUN.test(part)),
    },
  ],
  'backup-not-found': [
    { kinds: ['audit', 'verify'], why: 'nothing to compare with, or no more', when: always },
  ],
};

export function mayBeRefused(operation: Operation, circumstances: Circumstances): boolean {
  return isAllowed(REFUSALS, operation, circumstances);
}

export function mayFail(operation: Operation, circumstances: Circumstances): boolean {
  return isAllowed(FAILURES, operation, circumstances);
}

function isAllowed(
  list: Readonly<Record<string, readonly Allowed[]>>,
  operation: Operation,
  circumstances: Circumstances,
): boolean {
  const entries = list[operation.error?.code ?? ''] ?? [];
  return entries.some(
    ({ kinds, when }) =>
      kinds.some(kind => operation.kind.startsWith(kind)) && when(operation, circumstances),
  );
}
