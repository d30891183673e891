// How backups are shown: in a list, and one alone.
import type { Schema } from '@tidemark/client';
import { type Column, moment, seconds, size } from '../output.ts';

type Backup = Schema<'Backup'>;

export const backupColumns: readonly Column<Backup>[] = [
  ['ID', backup => backup.id],
  ['VOLUME', backup => backup.volumeName],
  ['CHECKPOINT', backup => backup.checkpoint],
  ['KIND', backup => backup.kind],
  ['STATE', backup => backup.state],
  ['POINT IN TIME', backup => moment(backup.pointInTime)],
  ['DIRTY', backup => size(backup.dirtyBytes)],
  ['SENT', backup => size(backup.sentBytes)],
  ['STORED', backup => size(backup.storedBytes)],
  ['TIME', backup => seconds(backup.durationMs)],
  ['VERIFIED', backup => backup.verifyResult],
];

/** `names`: of repositories, by id. */
export function listedBackups(names: ReadonlyMap<string, string>): readonly Column<Backup>[] {
  const place: Column<Backup> = ['REPOSITORY', ({ repositoryId }) => names.get(repositoryId) ?? repositoryId];
  return [...backupColumns.slice(0, 3), place, ...backupColumns.slice(3)];
}

/** Where the bytes are is for programs: `--json` has the places. */
function damaged({ damage }: Backup): string | null {
  if (!damage?.length) return null;
  return `${size(damage.reduce((sum, { length }) => sum + length, 0))} in ${damage.length} places`;
}

export const backupDetails: readonly Column<Backup>[] = [
  ...backupColumns,
  ['DESCRIPTION', backup => backup.description || null],
  ['PINNED UNTIL', backup => moment(backup.pinnedUntil)],
  ['REASON', backup => backup.reason],
  ['PARENT', backup => backup.parentId],
  ['REPLICA OF', backup => backup.replicaOfId],
  ['SIZE', backup => size(backup.sizeBytes)],
  ['VOLUME ID', backup => backup.volumeId],
  ['REPOSITORY', backup => backup.repositoryId],
  ['FILE', backup => backup.fileName],
  ['COMPRESSION', backup => backup.compression],
  ['VERIFIED AT', backup => moment(backup.verifiedAt)],
  ['DAMAGED', damaged],
];
