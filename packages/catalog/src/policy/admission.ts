// Whether a member of a firing may start now, or all that are to be of one instant: by the limits of their policy,
// their storage nodes and their repository, and by the room that their backups are expected to take. Pure: the facts
// are found by others.

export interface AdmissionFacts {
  readonly policy: Load;
  /** All of the members'. */
  readonly storageNodes: readonly Load[];
  /** Null for a checkpoint alone. */
  readonly repository: (Load & Room) | null;
  /** What it takes, at most; null: not known. */
  readonly needBytes: number | null;
}

export interface Load {
  readonly id: string;
  readonly name: string;
  readonly running: number;
  /** Of them that ask, so many. */
  readonly coming: number;
  readonly max: number;
}

export interface Room {
  /** As the storage node says; null: not known. */
  readonly availableBytes: number | null;
  /** Null: as much as its file system has. */
  readonly limitBytes: number | null;
  /** Promised to backups that are under way. */
  readonly reservedBytes: number;
}

export type Verdict =
  | { readonly kind: 'admit' }
  /** It may fit later. `who` is full, or has no room for this one. */
  | {
      readonly kind: 'wait';
      readonly who: 'policy' | 'storage node' | 'repository' | 'room';
      /** Of who is full; of the repository for room. */
      readonly id: string;
      readonly reason: string;
    }
  /** It never does. */
  | { readonly kind: 'refuse'; readonly reason: string };

/** Those that are more together than the limit go alone: they would wait for ever. */
const isFull = ({ running, coming, max }: Load): boolean => running > 0 && running + coming > max;

export function judge({ policy, storageNodes, repository, needBytes }: AdmissionFacts): Verdict {
  if (repository?.limitBytes != null && needBytes !== null && needBytes > repository.limitBytes) {
    const reason =
      `needs up to ${needBytes} bytes, more than the limit of ${repository.limitBytes} of repository ` +
      `'${repository.name}': raise it, or choose another repository`;
    return { kind: 'refuse', reason };
  }
  const full = [
    { who: 'policy' as const, ...policy },
    ...storageNodes.map(load => ({ who: 'storage node' as const, ...load })),
    ...(repository ? [{ who: 'repository' as const, ...repository }] : []),
  ].find(isFull);
  if (full) {
    const { who, id, name, running, coming, max } = full;
    const together = coming === 1 ? '' : `, and ${coming} are to begin together`;
    const reason = `${who} '${name}' has ${running} of at most ${max} backups under way${together}`;
    return { kind: 'wait', who, id, reason };
  }
  if (repository === null || needBytes === null || repository.availableBytes === null)
    return { kind: 'admit' };
  const { name, availableBytes, reservedBytes } = repository;
  if (needBytes <= availableBytes - reservedBytes) return { kind: 'admit' };
  const promised = reservedBytes === 0 ? '' : `, ${reservedBytes} of them promised to backups under way`;
  return {
    kind: 'wait',
    who: 'room',
    id: repository.id,
    reason: `needs up to ${needBytes} bytes, and repository '${name}' has ${availableBytes} left${promised}`,
  };
}
