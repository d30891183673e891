// What a prune is going to do, worked out from the catalog.
import {
  awaitedOf,
  type CatalogTransaction,
  type ChainPlan,
  keptOf,
  planChain,
  type RetentionRow,
} from '@tidemark/catalog';
import { isoOrNull } from '../moments.ts';
import type { Prune, PruneCheckpoint, PruneItem } from '../schemas/retention.ts';
import { planCheckpoints } from './checkpoint-plan.ts';

export interface PrunePlan {
  readonly items: PruneItem[];
  readonly checkpoints: PruneCheckpoint[];
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
  readonly repositoryId: string;
}

const MISSING = 'missing from its repository: put its files back, or repair its difference with forget';

/** `rows`: all backups of the repository, since chains cross volumes. */
export async function planPrune(
  catalog: CatalogTransaction,
  rows: readonly RetentionRow[],
  rules: PruneRules,
): Promise<PrunePlan> {
  const scope = rows.filter(row => rules.volumeId === undefined || row.volumeId === rules.volumeId);
  const keep = keptOf(scope, { rules: rules.keep, now: rules.now, timeZone: rules.timeZone });
  const goingIds = new Set([...keep].filter(([, reasons]) => reasons.length === 0).map(([id]) => id));
  const leaves = ({ id, state }: RetentionRow) =>
    goingIds.has(id) || state === 'hidden' || state === 'removing';
  const chain = planChain(rows.map(row => ({ ...row, goes: leaves(row) })));
  const volumeIds = [
    ...new Set([...scope.map(({ volumeId }) => volumeId), ...(rules.volumeId ? [rules.volumeId] : [])]),
  ];
  const freed = new Map(chain.removals.map(({ id, freedBytesMax }) => [id, freedBytesMax]));
  const unused = await catalog.retention.unusedCheckpoints(volumeIds, new Set(freed.keys()));
  const volumes = await catalog.retention.checkpoints(volumeIds);
  const going = new Set(unused.map(({ id }) => id));
  const checkpoints = planCheckpoints(volumes, { ...rules, going, leaving: freed });
  const goes = [...goingIds].map(id => ({ id }));
  const awaited = await awaitedOf(catalog, { ...rules, rows, goes });
  const found: Found = {
    ...{ keep, waits: chain.waits, freed, awaited },
    names: new Map(volumes.map(({ id, name }) => [id, name])),
    checkpoints: new Map(checkpoints.map(checkpoint => [checkpoint.id, checkpoint])),
  };
  const items = scope
    .filter(({ state }) => state !== 'creating')
    .map(row => toItem(row, found))
    .sort((a, b) => ((a.pointInTime ?? '') < (b.pointInTime ?? '') ? 1 : -1));
  const freedBytes = items.reduce((sum, item) => sum + item.freedBytes, 0);
  return { items, checkpoints, freedBytes, goingIds: [...goingIds], volumeIds };
}

interface Found {
  readonly keep: ReadonlyMap<string, string[]>;
  readonly waits: ChainPlan['waits'];
  readonly freed: ReadonlyMap<string, number>;
  readonly awaited: ReadonlyMap<string, string[]>;
  /** Of volumes that are still there. */
  readonly names: ReadonlyMap<string, string>;
  readonly checkpoints: ReadonlyMap<string, PruneCheckpoint>;
}

function toItem({ id, volumeId, state, pointInTime, ...row }: RetentionRow, found: Found): PruneItem {
  const keep = state === 'missing' ? [MISSING] : (found.keep.get(id) ?? []);
  const checkpoint = found.checkpoints.get(row.checkpointId);
  return {
    backup: id,
    volumeId,
    volume: found.names.get(volumeId) ?? null,
    pointInTime: isoOrNull(pointInTime),
    checkpoint: {
      ...{ id: row.checkpointId, name: row.checkpoint },
      ...{ goes: checkpoint?.goes ?? false, keep: checkpoint?.keep ?? [] },
    },
    goes: keep.length === 0,
    keep,
    blockedBy: found.waits.get(id) ?? null,
    awaitedBy: found.awaited.get(id) ?? [],
    freedBytes: found.freed.get(id) ?? 0,
  };
}
