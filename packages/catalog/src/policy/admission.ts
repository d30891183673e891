// Whether a member of a firing may start now: by the limits of its policy, its storage node and its repository, and by
// the room that its backup is expected to take. Pure: the facts are found by others.

export interface AdmissionFacts {
  readonly policy: Load;
  readonly storageNode: Load;
  /** Null for a checkpoint alone. */
  readonly repository: (Load & Room) | null;
  /** What it takes, at most; null: not known. */
  readonly needBytes: number | null;
}

export interface Load {
  readonly name: string;
  readonly running: number;
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
      readonly reason: string;
    }
  /** It never does. */
  | { readonly kind: 'refuse'; readonly reason: string };

export function judge({ policy, storageNode, repository, needBytes }: AdmissionFacts): Verdict {
  if (repository?.limitBytes != null && needBytes !== null && needBytes > repository.limitBytes) {
    const reason =
      `needs up to ${needBytes} bytes, more than the limit of ${repository.limitBytes} of repository ` +
      `'${repository.name}': raise it, or choose another repository`;
    return { kind: 'refuse', reason };
  }
  const full = [
    { who: 'policy' as const, ...policy },
    { who: 'storage node' as const, ...storageNode },
    ...(repository ? [{ who: 'repository' as const, ...repository }] : []),
  ].find(({ running, max }) => running >= max);
  if (full) {
    const reason = `${full.who} '${full.name}' has ${full.running} of at most ${full.max} backups under way`;
    return { kind: 'wait', who: full.who, reason };
  }
  if (repository === null || needBytes === null || repository.availableBytes === null)
    return { kind: 'admit' };
  const { name, availableBytes, reservedBytes } = repository;
  if (needBytes <= availableBytes - reservedBytes) return { kind: 'admit' };
  const promised = reservedBytes === 0 ? '' : `, ${reservedBytes} of them promised to backups under way`;
  return {
    kind: 'wait',
    who: 'room',
    reason: `needs up to ${needBytes} bytes, and repository '${name}' has ${availableBytes} left${promised}`,
  };
}
