// What is free where a repository lies, for those who are about to take some of it, or tell of it.
import { TidemarkError } from '@tidemark/proto';
import { diskSpace } from '../host/disk-space.ts';
import type { BackupHost } from './partial-backup.ts';

/**
 * Of its file system, without what others have set aside there; negative where they have more than is left. Rejects
 * with `io-error` where the repository's folder is away.
 */
export async function freeBytes({
  store,
  layout,
  shared,
  title,
}: Pick<BackupHost, 'store' | 'layout' | 'shared' | 'title'>): Promise<number> {
  try {
    const { availableBytes } = await diskSpace(store.path(layout.backups));
    return availableBytes - shared.spokenForBytes;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const text = `The folder of ${title} cannot be read (${reason}). Mend or mount its disk, then try again.`;
    throw new TidemarkError('io-error', text, error);
  }
}

/** Of the file system and of the repository's limit, whichever is less. Rejects as `freeBytes` does. */
export async function availableBytes(host: BackupHost): Promise<number> {
  return Math.max(0, Math.min(await freeBytes(host), host.budget.leftBytes));
}
