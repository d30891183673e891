// A migrated database of its own for each suite. The vitest project must name `global-setup.ts`.
import { randomBytes } from 'node:crypto';
import { inject } from 'vitest';
// Brings the type of what the global set-up provides.
import type {} from './global-setup.ts';
import { databaseUrl, inDatabase } from './server.ts';

export interface TestDatabase {
  /** For `Catalog.connect`, and for a queue. */
  url: string;
  /** Ends what is still connected, and removes the database. */
  drop(): Promise<void>;
}

/** `empty`: without tables, for tests of the migrations themselves. */
export async function createTestDatabase(options: { empty?: boolean } = {}): Promise<TestDatabase> {
  const server = inject('tidemarkTestServer');
  const name = `tidemark_test_${randomBytes(6).toString('hex')}`;
  const template = options.empty ? 'template0' : server.template;
  await inDatabase(server.url, client => client.query(`CREATE DATABASE ${name} TEMPLATE ${template}`));
  return {
    url: databaseUrl(server.url, name),
    drop: async () => {
      await inDatabase(server.url, client => client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`));
    },
  };
}

/** Where a suite may start containers of its own; null where it has processes instead. */
export function testContainers() {
  return inject('tidemarkTestServer').containers;
}
