// Rows held for the rest of a transaction, by the names that paths give them: nobody else changes them meanwhile.
import { Prisma } from './generated/client.ts';
import { isId } from './ref.ts';
import type { Scope } from './scope.ts';

/** Parameters of paths, and the tables that they lead to; with the column of their names where they have some. */
const TABLES: Readonly<Record<string, { table: Prisma.Sql; named: boolean }>> = {
  storageNode: { table: Prisma.sql`storage_node`, named: true },
  volume: { table: Prisma.sql`volume`, named: true },
  repository: { table: Prisma.sql`repository`, named: true },
  backup: { table: Prisma.sql`backup`, named: false },
  policy: { table: Prisma.sql`policy`, named: true },
  webhook: { table: Prisma.sql`webhook`, named: true },
  group: { table: Prisma.sql`checkpoint_group`, named: true },
  token: { table: Prisma.sql`api_token`, named: true },
  rule: { table: Prisma.sql`replication_rule`, named: true },
  joinToken: { table: Prisma.sql`join_token`, named: false },
};

export class RowLockRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /**
   * Until the transaction ends. What is not there is not locked; a checkpoint is held by itself, beside its volume.
   * Throws for a parameter that is not among the tables: what it leads to would be changed without a lock.
   */
  async lock(params: readonly (readonly [name: string, ref: string])[]): Promise<void> {
    await this.#scope.read(async db => {
      for (const [name, ref] of params) {
        const known = TABLES[name];
        if (name === 'checkpoint') {
          const which = isId(ref) ? Prisma.sql`id = ${ref}::uuid` : Prisma.sql`name = ${ref}`;
          // Names are of one volume; those of others that are held with it wait for a moment.
          await db.$queryRaw`SELECT 1 FROM checkpoint WHERE ${which} ORDER BY id FOR UPDATE`;
        } else if (known === undefined) {
          throw new Error(`rows of '${name}' cannot be locked: their table is not known`);
        } else if (isId(ref) || known.named) {
          const which = isId(ref) ? Prisma.sql`id = ${ref}::uuid` : Prisma.sql`name = ${ref}`;
          await db.$queryRaw`SELECT 1 FROM ${known.table} WHERE ${which} ORDER BY id FOR UPDATE`;
        }
      }
    });
  }
}
