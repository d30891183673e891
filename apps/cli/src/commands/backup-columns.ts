// How backups are shown: in a list, and one alone.
import type { Schema } from '@tidemark/client';
import { type Column, moment, recordOrGone, seconds, size } from '../output.ts';
import type { Context } from './context.ts';
import { repositoryNames } from './names.ts';

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

/** `names`: of its repository, by id. */
const backupDetails = (names: ReadonlyMap<string, string>): readonly Column<Backup>[] => [
  ...backupColumns,
  ['DESCRIPTION', backup => backup.description || null],
  ['PINNED UNTIL', backup => moment(backup.pinnedUntil)],
  ['REASON', backup => backup.reason],
  ['PARENT', backup => backup.parentId],
  ['REPLICA OF', backup => backup.replicaOfId],
  ['SIZE', backup => size(backup.sizeBytes)],
  ['VOLUME ID', backup => backup.volumeId],
  ['REPOSITORY', ({ repositoryId }) => names.get(repositoryId) ?? repositoryId],
  ['FILE', backup => backup.fileName],
  ['COMPRESSION', backup => backup.compression],
  ['VERIFIED AT', backup => moment(backup.verifiedAt)],
  ['DAMAGED', damaged],
];

/** One alone, with its repository by name. */
export async function backupText(
  context: Pick<Context, 'client' | 'output'>,
  backup: Backup | null,
): Promise<string> {
  const names = await repositoryNames(context, backup === null ? [] : [backup]);
  return recordOrGone(backup, backupDetails(names));
}

/** The answer of the API, or the same for people. */
export async function showBackup(context: Pick<Context, 'client' | 'output'>, backup: Backup): Promise<void> {
  const text = await backupText(context, backup);
  context.output.print(backup, () => text);
}
