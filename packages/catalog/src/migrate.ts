// Applies prisma/migrations in order and records them in Prisma's own table, with its checksum and under
// its advisory lock, so that `prisma migrate status` and `deploy` agree with what is found. It needs no
// schema engine, which has no place on a closed network.
import { createHash, randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Client } from 'pg';
import { CatalogError } from './errors.ts';

const MIGRATIONS = fileURLToPath(new URL('../prisma/migrations/', import.meta.url));

// Prisma's documentation, "Development and production": advisory locking.
/** The key Prisma takes for migrations. */
const PRISMA_LOCK_KEY = 72_707_369;

const MIGRATIONS_TABLE = `CREATE TABLE IF NOT EXISTS _prisma_migrations (
  id VARCHAR(36) PRIMARY KEY NOT NULL,
  checksum VARCHAR(64) NOT NULL,
  finished_at TIMESTAMPTZ,
  migration_name VARCHAR(255) NOT NULL,
  logs TEXT,
  rolled_back_at TIMESTAMPTZ,
  started_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  applied_steps_count INTEGER NOT NULL DEFAULT 0
)`;

interface Migration {
  name: string;
  sql: string;
  checksum: string;
}

interface Applied {
  migration_name: string;
  checksum: string;
  finished_at: Date | null;
}

async function readMigrations(folder: string): Promise<Migration[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const names = entries.filter(entry => entry.isDirectory()).map(entry => entry.name);
  return Promise.all(
    names.sort().map(async name => {
      const sql = await readFile(`${folder}/${name}/migration.sql`, 'utf8');
      return { name, sql, checksum: createHash('sha256').update(sql).digest('hex') };
    }),
  );
}

function check(migrations: Migration[], applied: Applied[]): void {
  for (const row of applied) {
    if (row.finished_at === null) {
      throw new CatalogError(
        'catalog',
        'invalid-migration',
        `Migration ${row.migration_name} failed earlier and may be applied in part. Restore the database, ` +
          "or repair it and record the outcome with 'prisma migrate resolve'; then try again.",
      );
    }
    const known = migrations.find(migration => migration.name === row.migration_name);
    if (!known) {
      throw new CatalogError(
        'catalog',
        'invalid-migration',
        `The database has migration ${row.migration_name}, which this version does not know. ` +
          'Start the version that made it, or a newer one.',
      );
    }
    if (known.checksum !== row.checksum) {
      throw new CatalogError(
        'catalog',
        'invalid-migration',
        `Migration ${row.migration_name} was edited after it was applied. ` +
          'Put the file back as it was, and add a new migration instead.',
      );
    }
  }
}

async function apply(client: Client, migration: Migration): Promise<void> {
  const id = randomUUID();
  await client.query('INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES ($1, $2, $3)', [
    id,
    migration.checksum,
    migration.name,
  ]);
  try {
    // One simple query of several statements: the server runs it as one transaction.
    await client.query(migration.sql);
  } catch (error) {
    await client.query('UPDATE _prisma_migrations SET logs = $2 WHERE id = $1', [id, String(error)]);
    throw new CatalogError(
      'catalog',
      'invalid-migration',
      `Migration ${migration.name} failed: ${String(error)}`,
      error,
    );
  }
  await client.query(
    'UPDATE _prisma_migrations SET finished_at = now(), applied_steps_count = 1 WHERE id = $1',
    [id],
  );
}

/**
 * Brings the database up to this version; returns the names of the migrations applied now. Good to repeat,
 * and for several processes at once. Rejects `invalid-migration` on a failed, edited or unknown one, and
 * then has changed nothing.
 */
export async function applyMigrations(databaseUrl: string, folder = MIGRATIONS): Promise<string[]> {
  const migrations = await readMigrations(folder);
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query('SELECT pg_advisory_lock($1)', [PRISMA_LOCK_KEY]);
    await client.query(MIGRATIONS_TABLE);
    const { rows } = await client.query<Applied>(
      'SELECT migration_name, checksum, finished_at FROM _prisma_migrations WHERE rolled_back_at IS NULL',
    );
    check(migrations, rows);
    const done = new Set(rows.map(row => row.migration_name));
    const missing = migrations.filter(migration => !done.has(migration.name));
    for (const migration of missing) await apply(client, migration);
    return missing.map(migration => migration.name);
  } finally {
    await client.end();
  }
}
