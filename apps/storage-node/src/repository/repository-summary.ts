// What a repository says of itself, and of what goes on in it.
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
