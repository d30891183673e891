// Leases on backups: whoever reads a backup or builds on it holds one, and retention leaves the backup alone until
// the last is dropped. Taking one and hiding a backup lock the same row, so that neither overlooks the other.
import { randomUUID } from 'node:crypto';
import { CatalogError, notFound } from './errors.ts';
import type { BackupLeaseModel } from './generated/models.ts';
import type { Db, Scope } from './scope.ts';

/** `run`: dropped when the run has ended; `volume`: an instant one, until it stands alone. */
export type BackupLeaseHolder = 'run' | 'volume';

export interface BackupLease {
  backupId: string;
  holder: BackupLeaseHolder;
  holderId: string;
  createdAt: Date;
}

const toLease = ({ id: _, holder, ...row }: BackupLeaseModel): BackupLease => ({
  ...row,
  holder: holder as BackupLeaseHolder,
});

export class BackupLeaseRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /**
   * Good to repeat. Rejects `backup-not-found`, and `backup-not-usable` for a backup that is not available (any
   * more).
   */
  take(backupId: string, holder: BackupLeaseHolder, holderId: string): Promise<void> {
    return this.#scope.single(async db => {
      const rows = await db.$queryRaw<{ state: string; is_held: boolean }[]>`
        WITH wanted AS (SELECT id, state FROM backup WHERE id = ${backupId}::uuid FOR UPDATE),
          taken AS (
            INSERT INTO backup_lease (id, backup_id, holder, holder_id)
            SELECT ${randomUUID()}::uuid, id, ${holder}, ${holderId}::uuid FROM wanted WHERE state = 'available'
            ON CONFLICT (backup_id, holder, holder_id) DO NOTHING)
        SELECT state, EXISTS (SELECT 1 FROM backup_lease
          WHERE backup_id = wanted.id AND holder = ${holder} AND holder_id = ${holderId}::uuid) AS is_held
        FROM wanted`;
      if (rows[0] === undefined) throw notFound('backup', backupId);
      const { state, is_held: isHeld } = rows[0];
      if (state === 'available' || isHeld) return;
      const text = `Backup ${backupId} is ${state}: nobody may begin to use it. Choose another backup.`;
      throw new CatalogError('backup', 'not-usable', text);
    });
  }

  /** All that the holder has. Good to repeat. */
  drop(holder: BackupLeaseHolder, holderId: string): Promise<void> {
    return this.#scope.write(db => dropLeases(db, holder, holderId));
  }

  /** Oldest first. */
  async holders(backupId: string): Promise<BackupLease[]> {
    return this.ofBackups([backupId]);
  }

  /** Of any of the backups; oldest first. */
  async ofBackups(backupIds: readonly string[]): Promise<BackupLease[]> {
    const where = { backupId: { in: [...backupIds] } };
    const orderBy = [{ createdAt: 'asc' as const }, { id: 'asc' as const }];
    return (await this.#scope.read(db => db.backupLease.findMany({ where, orderBy }))).map(toLease);
  }
}

export async function dropLeases(db: Db, holder: BackupLeaseHolder, holderId: string): Promise<void> {
  await db.backupLease.deleteMany({ where: { holder, holderId } });
}
