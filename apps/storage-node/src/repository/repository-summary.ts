// What a repository says of itself, and of what goes on in it.
import { TidemarkError } from '@tidemark/proto';
import type { Compression } from './manifest.ts';
import type { OpenSummary } from './open-backups.ts';

export interface RepositorySummary {
  readonly repositoryId: string;
  readonly name: string;
  /** 0: as much as the file system has. */
  readonly limitBytes: number;
  readonly usedBytes: number;
  readonly availableBytes: number;
  readonly compression: Compression;
}

export interface RepositoryWork {
  readonly partials: { readonly backupId: string; readonly sinceMs: number }[];
  readonly open: OpenSummary[];
  readonly leavingBackupIds: string[];
}

/** Throws `repository-in-use` while there is anything that somebody may want back or is at work on. */
export function checkEmpty(repository: {
  title: string;
  backups: number;
  fileNames: readonly string[];
  isIdle: boolean;
}): void {
  const { title, backups, fileNames, isIdle } = repository;
  if (backups === 0 && fileNames.length === 0 && isIdle) return;
  const what =
    backups > 0
      ? `holds ${backups} backups`
      : isIdle
        ? `has ${fileNames.length} files in its folder that are no backups, such as ${fileNames[0]}`
        : 'is being written to or read';
  throw new TidemarkError(
    'repository-in-use',
    `The ${title} ${what}: it cannot be deleted. Delete or move what is there first.`,
  );
}
