// What a prune is going to do, worked out from the catalog.
import {
  type CatalogTransaction,
  type ChainPlan,
  planChain,
  type RetentionRow,
  reasonsToKeep,
} from '@tidemark/catalog';
import { isoOrNull } from '../moments.ts';
import type { Prune, PruneItem } from '../schemas/retention.ts';

export interface PrunePlan {
  readonly items: PruneItem[];
  readonly freedBytes: number;
  /** Of available backups that go. */
  readonly goingIds: string[];
  /** Whose checkpoints may go with them. */
  readonly volumeIds: string[];
}

export interface PruneRules extends Pick<Prune, 'keep' | 'timeZone'> {
  readonly now: Date;
  /** Undefined: all. */
  readonly volumeId: string | undefined;
}

const NO_MOMENT = 'its point in time is not known';

/** `rows`: all backups of the repository, since chains cross volumes. */
export async function planPrune(
  catalog: CatalogTransaction,
  rows: readonly RetentionRow[],
  rules: PruneRules,
): Promise<PrunePlan> {
  const scope = rows.filter(row => rules.volumeId === undefined || row.volumeId === rules.volumeId);
  const keep = keptOf(scope, rules);
  const going = new Set([...keep].filter(([, reasons]) => reasons.length === 0).map(([id]) => id));
  const leaves = ({ id, state }: RetentionRow) => going.has(id) || state === 'hidden' || state === 'removing';
  const chain = planChain(rows.map(row => ({ ...row, goes: leaves(row) })));
  const volumeIds = [...new Set(scope.map(({ volumeId }) => volumeId))];
  const freed = new Map(chain.removals.map(({ id, freedBytesMax }) => [id, freedBytesMax]));
  const unused = await catalog.retention.unusedCheckpoints(volumeIds, new Set(freed.keys()));
  const checkpointIds = new Set(unused.map(({ id }) => id));
  const items = scope
    .filter(({ state }) => state !== 'creating')
    .map(row => toItem(row, { keep: keep.get(row.id) ?? [], waits: chain.waits, freed, checkpointIds }))
    .sort((a, b) => ((a.pointInTime ?? '') < (b.pointInTime ?? '') ? 1 : -1));
  const freedBytes = items.reduce((sum, item) => sum + item.freedBytes, 0);
  return { items, freedBytes, goingIds: [...going], volumeIds };
}

/** For each available backup; rules count within a volume. */
function keptOf(scope: readonly RetentionRow[], rules: PruneRules): Map<string, string[]> {
  const kept = new Map<string, string[]>();
  const available = scope.filter(({ state }) => state === 'available');
  for (const [, ofVolume] of Map.groupBy(available, ({ volumeId }) => volumeId)) {
    const known = ofVolume.filter(row => row.pointInTime !== null);
    const candidates = known.map(row => ({ ...row, pointInTime: row.pointInTime! }));
    const options = { rules: rules.keep, now: rules.now, timeZone: rules.timeZone };
    for (const [id, reasons] of reasonsToKeep(candidates, options)) kept.set(id, reasons);
    for (const { id, pointInTime } of ofVolume) if (pointInTime === null) kept.set(id, [NO_MOMENT]);
  }
  return kept;
}

function toItem(
  row: RetentionRow,
  found: {
    keep: string[];
    waits: ChainPlan['waits'];
    freed: ReadonlyMap<string, number>;
    checkpointIds: ReadonlySet<string>;
  },
): PruneItem {
  const { id, volumeId, checkpointId, checkpoint, pointInTime } = row;
  return {
    backup: id,
    volumeId,
    pointInTime: isoOrNull(pointInTime),
    checkpoint: { id: checkpointId, name: checkpoint, goes: found.checkpointIds.has(checkpointId) },
    goes: found.keep.length === 0,
    keep: found.keep,
    blockedBy: found.waits.get(id) ?? null,
    freedBytes: found.freed.get(id) ?? 0,
  };
}
