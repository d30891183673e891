// The names of differences between storage nodes, repositories and catalog, and what can be done about each.
import type { JsonObject, RunFact, SeenDifference } from '@tidemark/catalog';

type SubjectType = SeenDifference['subjectType'];

/**
 * Every name, what it is about, and the repairs that there are; the first is the one that is made by itself, but for a
 * group's.
 */
export const DIFFERENCE_KINDS = {
  'foreign-ids': { about: 'storage-node', actions: [] },
  'volume-unknown': { about: 'volume', actions: ['adopt', 'remove'] },
  'volume-missing': { about: 'volume', actions: ['forget'] },
  'volume-differs': { about: 'volume', actions: ['accept'] },
  'volume-creating-left': { about: 'volume', actions: ['forget', 'adopt'] },
  'volume-deleting-left': { about: 'volume', actions: ['forget', 'keep'] },
  'volume-arrived-left': { about: 'volume', actions: ['open'] },
  'volume-sealed-left': { about: 'volume', actions: ['unseal'] },
  'restoring-left': { about: 'volume', actions: ['remove'] },
  'checkpoint-unknown': { about: 'checkpoint', actions: ['adopt', 'merge'] },
  'checkpoint-missing': { about: 'checkpoint', actions: ['forget'] },
  'checkpoint-inconsistent': { about: 'checkpoint', actions: ['merge'] },
  'checkpoint-differs': { about: 'checkpoint', actions: ['rename'] },
  'checkpoint-creating-left': { about: 'checkpoint', actions: ['forget', 'adopt'] },
  'checkpoint-deleting-left': { about: 'checkpoint', actions: ['forget', 'keep'] },
  'snapshot-unknown': { about: 'snapshot', actions: ['adopt'] },
  'snapshot-missing': { about: 'snapshot', actions: ['forget'] },
  'snapshot-creating-left': { about: 'snapshot', actions: ['forget', 'adopt'] },
  'group-undecided': { about: 'group', actions: ['keep', 'undo'] },
  'commit-differs': { about: 'commit', actions: ['end'] },
  'repository-unknown': { about: 'repository', actions: ['adopt', 'remove'] },
  'repository-missing': { about: 'repository', actions: ['forget'] },
  'repository-creating-left': { about: 'repository', actions: ['forget', 'adopt'] },
  'repository-deleting-left': { about: 'repository', actions: ['forget', 'keep'] },
  'backup-unknown': { about: 'backup', actions: ['adopt'] },
  'backup-missing': { about: 'backup', actions: ['forget'] },
  'backup-differs': { about: 'backup', actions: ['accept'] },
  'backup-creating-left': { about: 'backup', actions: ['forget', 'adopt'] },
  'hidden-left': { about: 'backup', actions: ['hide'] },
  'removed-left': { about: 'backup', actions: ['finish'] },
  'partial-left': { about: 'backup', actions: ['discard'] },
  'open-backup-left': { about: 'backup', actions: ['close'] },
  'moment-left': { about: 'volume', actions: ['release'] },
  'job-left': { about: 'run', actions: ['end'] },
  'run-stuck': { about: 'run', actions: [] },
  'lease-left': { about: 'backup', actions: ['drop'] },
} as const satisfies Record<string, { about: SubjectType; actions: readonly string[] }>;

export type DifferenceKind = keyof typeof DIFFERENCE_KINDS;

export function isDifferenceKind(text: string): text is DifferenceKind {
  return Object.hasOwn(DIFFERENCE_KINDS, text);
}

export interface FoundDifference {
  readonly kind: DifferenceKind;
  readonly subjectId: string;
  readonly message: string;
  /** What may be asked for now: some of the kind's repairs. */
  readonly actions: readonly string[];
  /** The one that cannot lose anything, and whose reason is known for certain; null: somebody has to decide. */
  readonly safe: string | null;
  /** What is about to be changed by a run that goes on with one of these ids is no difference. */
  readonly touches: readonly string[];
  readonly facts: JsonObject;
}

export type Find = (
  kind: DifferenceKind,
  subjectId: string,
  message: string,
  more?: Partial<Pick<FoundDifference, 'actions' | 'safe' | 'touches' | 'facts'>>,
) => void;

/** Collects what is found, in its order. */
export function findings(): { found: FoundDifference[]; find: Find } {
  const found: FoundDifference[] = [];
  const find: Find = (kind, subjectId, message, more = {}) => {
    const { actions = DIFFERENCE_KINDS[kind].actions, safe = null, touches = [], facts = {} } = more;
    found.push({ ...{ kind, subjectId, message, actions, safe, facts }, touches: [subjectId, ...touches] });
  };
  return { found, find };
}

export const keyOf = ({ kind, subjectId }: Pick<FoundDifference, 'kind' | 'subjectId'>): string =>
  `${kind} ${subjectId}`;

/** The newest run about an id, of the given kinds. */
export type RunsAbout = (id: string, kinds?: readonly RunFact['kind'][]) => RunFact | undefined;

export const hasGivenUp = (run: RunFact | undefined): boolean =>
  run !== undefined && !run.live && (run.state === 'failed' || run.state === 'cancelled');

export const hasEnded = (run: RunFact | undefined): boolean => run !== undefined && !run.live;
