// Names inside a repository's folder. A partial image lies in the folder of the published ones, so that
// its relative backing file name is right before and after the rename.
//
//   repositories/REPOSITORY/repository.json
//   repositories/REPOSITORY/backups/BACKUP.json            manifest: the backup exists
//   repositories/REPOSITORY/backups/BACKUP.qcow2           its image, over its parent's
//   repositories/REPOSITORY/backups/BACKUP.sums            its checksums
//   repositories/REPOSITORY/backups/.partial-BACKUP.qcow2  being written, as is .partial-BACKUP.sums

export const REPOSITORIES_FOLDER = 'repositories';

const PARTIAL = /^\.partial-(.+)\.(qcow2|sums)$/;
const IMAGE = /^([^.]+)\.qcow2$/;
const SUMS = /^([^.]+)\.sums$/;
const MANIFEST = /^([^.]+)\.json$/;
const PATTERNS = [
  ['partial', PARTIAL],
  ['image', IMAGE],
  ['sums', SUMS],
  ['manifest', MANIFEST],
] as const;

export class RepositoryLayout {
  readonly folder: string;
  readonly backups: string;
  readonly record: string;

  constructor(repositoryId: string) {
    this.folder = `${REPOSITORIES_FOLDER}/${repositoryId}`;
    this.backups = `${this.folder}/backups`;
    this.record = `${this.folder}/repository.json`;
  }

  manifest(backupId: string): string {
    return `${this.backups}/${backupId}.json`;
  }

  image(backupId: string): string {
    return `${this.backups}/${imageFileName(backupId)}`;
  }

  sums(backupId: string): string {
    return `${this.backups}/${sumsFileName(backupId)}`;
  }

  partial(backupId: string): string {
    return `${this.backups}/.partial-${backupId}.qcow2`;
  }

  partialSums(backupId: string): string {
    return `${this.backups}/.partial-${backupId}.sums`;
  }
}

/** As it stands in the backing file field of a child. */
export function imageFileName(backupId: string): string {
  return `${backupId}.qcow2`;
}

function sumsFileName(backupId: string): string {
  return `${backupId}.sums`;
}

export interface BackupFile {
  readonly what: 'partial' | 'image' | 'manifest' | 'sums';
  readonly backupId: string;
}

/** What a name in the backups folder is; undefined for what is none of ours. */
export function classify(fileName: string): BackupFile | undefined {
  for (const [what, pattern] of PATTERNS) {
    const backupId = pattern.exec(fileName)?.[1];
    if (backupId !== undefined) return { what, backupId };
  }
  return undefined;
}
