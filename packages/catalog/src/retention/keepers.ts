// Who keeps backups of a repository: policies that make them there, and rules of replication into it. What one of them
// would let go stays as long as another keeps it. Otherwise the rules of an hourly policy would take the backups of a
// monthly one, and what one rule of replication lets go another would bring back, for ever.
import { parseSelector } from '@tidemark/proto';
import type { CatalogTransaction } from '../catalog.ts';
import { pagesOf } from '../page.ts';
import type { RetentionRules } from './keep.ts';

type Look = Pick<CatalogTransaction, 'policies' | 'replicationRules' | 'volumes'>;

export interface Keeper {
  /** Of the policy or the rule. */
  readonly id: string;
  /** Such as `policy 'nightly'`. */
  readonly name: string;
  /** Null: it keeps everything. */
  readonly keep: RetentionRules | null;
  readonly timeZone: string;
  readonly selector: string;
  /** It has nothing to do with what was backed up there at first hand. */
  readonly replicasAlone: boolean;
}

/** Also those that are switched off for a while. A policy without rules neither prunes nor keeps. */
export async function keepersOf(
  catalog: Pick<Look, 'policies' | 'replicationRules'>,
  repositoryId: string,
): Promise<Keeper[]> {
  const keepers: Keeper[] = [];
  for await (const policies of pagesOf(page => catalog.policies.list(page))) {
    for (const { id, name, definition } of policies) {
      const { keep, schedule, selector } = definition;
      if (definition.repositoryId !== repositoryId || keep === null) continue;
      const { timeZone } = schedule;
      keepers.push({ id, name: `policy '${name}'`, keep, timeZone, selector, replicasAlone: false });
    }
  }
  for await (const rules of pagesOf(page => catalog.replicationRules.list(page))) {
    for (const { id, name, keep, timeZone, selector, targetRepositoryId } of rules) {
      if (targetRepositoryId !== repositoryId) continue;
      keepers.push({
        ...{ id, keep, timeZone, selector, replicasAlone: true },
        name: `replication rule '${name}'`,
      });
    }
  }
  return keepers;
}

/** Without a selector also backups of volumes that are gone. `volumeIds`: only these are asked about. */
export async function chosenBy(
  catalog: Pick<Look, 'volumes'>,
  { selector }: { selector: string },
  volumeIds?: readonly string[],
): Promise<(volumeId: string) => boolean> {
  const terms = parseSelector(selector);
  if (terms.length === 0) return () => true;
  const ids = volumeIds
    ? await catalog.volumes.whichSelected(volumeIds, terms)
    : new Set((await catalog.volumes.listSelected(terms)).map(({ id }) => id));
  return volumeId => ids.has(volumeId);
}
