// What of the catalog there is for those who may only see some volumes: everything that belongs to another volume, or
// to one that is gone, is not there for them. Every look-up of volumes, backups and runs asks here;
// what of events they see stands in event-visibility.ts.
import { type Labels, matchesSelector, type Selector, TidemarkError } from '@tidemark/proto';
import type { Db, Scope } from './scope.ts';
import { selectorCondition } from './selected.ts';

/** A statement has at most 65,535 parameters; who sees more volumes than this is better served without a scope. */
const VISIBLE_VOLUMES_MAX = 30_000;

/** Who sees some volumes alone, and what they have asked for. */
export interface Viewer {
  readonly name: string;
  readonly visible: Selector;
}

/** Null: whoever asks sees all. */
export function viewerOf(scope: Scope): Viewer | null {
  const acting = scope.acting();
  return acting === null || acting.visible.length === 0 ? null : acting;
}

/** Null: whoever asks sees all. */
const limits = (scope: Scope) => viewerOf(scope)?.visible ?? null;

export function isVisible(scope: Scope, labels: Labels): boolean {
  const visible = limits(scope);
  return visible === null || matchesSelector(visible, labels);
}

/** False for a volume that is gone, unless whoever asks sees all. */
export async function isVolumeVisible(scope: Scope, db: Db, volumeId: string | null): Promise<boolean> {
  if (limits(scope) === null) return true;
  if (volumeId === null) return false;
  const row = await db.volume.findUnique({ where: { id: volumeId }, select: { labels: true } });
  return row !== null && isVisible(scope, row.labels as Labels);
}

/** Null: all. Rejects `invalid-request` where they are too many for one list. */
export async function visibleVolumeIds(scope: Scope, db: Db): Promise<string[] | null> {
  const visible = limits(scope);
  if (visible === null) return null;
  const rows = await db.$queryRaw<{ id: string }[]>`
    SELECT id FROM volume WHERE ${selectorCondition(visible)} LIMIT ${VISIBLE_VOLUMES_MAX + 1}`;
  if (rows.length <= VISIBLE_VOLUMES_MAX) return rows.map(({ id }) => id);
  throw new TidemarkError(
    'invalid-request',
    `The scope of '${scope.acting()?.name}' holds more than ${VISIBLE_VOLUMES_MAX} volumes. ` +
      'Use a token without a scope.',
  );
}

/** Refuses labels that would put a volume where whoever asks does not see it. */
export function requireVisible(scope: Scope, name: string, labels: Labels): void {
  if (isVisible(scope, labels)) return;
  throw new TidemarkError(
    'forbidden',
    `Volume '${name}' would have labels outside the scope of '${scope.acting()?.name}'. Give it labels inside.`,
  );
}
