// What goes by the rules of one policy or one rule of replication, once all others were asked: those who keep the same
// backups, and those who have yet to copy them elsewhere.
import type { CatalogTransaction } from '../catalog.ts';
import type { RetentionRow } from '../retention-rows.ts';
import { type AwaitedLook, awaitedOf } from './awaited.ts';
import { keepsAnything } from './keep.ts';
import { chosenBy, type Keeper, keepersOf } from './keepers.ts';
import { keptOf } from './kept.ts';

/** What has to be asked for it. */
export type GoneLook = AwaitedLook & Pick<CatalogTransaction, 'policies'>;

/**
 * Of `goes`, which the keeper `by` lets go, what nobody else keeps, nor has yet to copy elsewhere. `rows`: all backups
 * of their volumes there.
 */
export async function goneByAll<T extends { readonly id: string }>(
  catalog: GoneLook,
  look: {
    readonly repositoryId: string;
    readonly by: string;
    readonly rows: readonly RetentionRow[];
    readonly goes: readonly T[];
    readonly now: Date;
  },
): Promise<T[]> {
  let goes = [...look.goes];
  if (goes.length === 0) return goes;
  const volumeIds = [...new Set(look.rows.map(({ volumeId }) => volumeId))];
  for (const keeper of await keepersOf(catalog, look.repositoryId)) {
    if (keeper.id === look.by) continue;
    const isChosen = await chosenBy(catalog, keeper, volumeIds);
    const kept = keptBy(keeper, look.rows, { now: look.now, isChosen });
    goes = goes.filter(({ id }) => !kept.has(id));
  }
  const awaited = await awaitedOf(catalog, { ...look, goes });
  return goes.filter(({ id }) => !awaited.has(id));
}

/** Ids. Rules that keep nothing are a mistake, and no reason to let anything go. */
function keptBy(
  { keep, timeZone, replicasAlone }: Keeper,
  rows: readonly RetentionRow[],
  { now, isChosen }: { now: Date; isChosen: (volumeId: string) => boolean },
): Set<string> {
  const own = rows.filter(row => isChosen(row.volumeId) && (!replicasAlone || row.replicaOfId !== null));
  if (keep === null || !keepsAnything(keep)) return new Set(own.map(({ id }) => id));
  const reasons = keptOf(own, { rules: keep, now, timeZone });
  return new Set([...reasons].filter(([, why]) => why.length > 0).map(([id]) => id));
}
