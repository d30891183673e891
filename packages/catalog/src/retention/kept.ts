// What rules keep of the backups of a repository: they count within each volume.
import type { RetentionRow } from '../retention-rows.ts';
import { type KeepOptions, reasonsToKeep } from './keep.ts';

const NO_MOMENT = 'its point in time is not known';

/** For each available backup of `rows` what keeps it; empty: it goes. */
export function keptOf(
  rows: readonly Pick<
    RetentionRow,
    'id' | 'volumeId' | 'state' | 'pointInTime' | 'createdAt' | 'pinnedUntil' | 'holders' | 'unsound'
  >[],
  options: KeepOptions,
): Map<string, string[]> {
  const kept = new Map<string, string[]>();
  const available = rows.filter(({ state }) => state === 'available');
  for (const [, ofVolume] of Map.groupBy(available, ({ volumeId }) => volumeId)) {
    const candidates = ofVolume.flatMap(row =>
      row.pointInTime === null ? [] : [{ ...row, pointInTime: row.pointInTime }],
    );
    for (const [id, reasons] of reasonsToKeep(candidates, options)) kept.set(id, reasons);
    for (const { id, pointInTime } of ofVolume) if (pointInTime === null) kept.set(id, [NO_MOMENT]);
  }
  return kept;
}
