// Runs once before the suites of a vitest project that names it: a PostgreSQL server for them, with a
// migrated database that each suite's own is copied from. Projects of one vitest process share the server.
import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { startPostgres } from '../../../../scripts/postgres/embedded-postgres.mjs';
import { applyMigrations } from '../migrate.ts';
import { testServerUrl } from './config.ts';
import { databaseUrl, inDatabase } from './server.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    tidemarkTestServer: { url: string; template: string };
  }
}

interface Server {
  url: string;
  template: string;
  stop(): Promise<void>;
}

interface Shared {
  users: number;
  server: Promise<Server>;
}

// Every project loads this file anew; only the process is common to them.
const SHARED = Symbol.for('tidemark.test-postgres');
const holder = globalThis as { [SHARED]?: Shared };

async function startPrivate(): Promise<{ url: string; stop(): Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'tidemark-test-postgres-'));
  // PostgreSQL may run as another user than we do.
  await chmod(folder, 0o755);
  const password = randomBytes(12).toString('hex');
  const server = await startPostgres({ dataDir: join(folder, 'data'), user: 'tidemark', password });
  const stop = async () => {
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  };
  // What the tests write need not outlive a power failure.
  await inDatabase(server.url, async client => {
    await client.query('ALTER SYSTEM SET fsync = off');
    await client.query('SELECT pg_reload_conf()');
  });
  return { url: server.url, stop };
}

async function start(): Promise<Server> {
  const server = testServerUrl ? { url: testServerUrl, stop: async () => {} } : await startPrivate();
  const template = `tidemark_template_${randomBytes(6).toString('hex')}`;
  const inServer = (sql: string) => inDatabase(server.url, client => client.query(sql));
  await inServer(`CREATE DATABASE ${pg.escapeIdentifier(template)}`);
  await applyMigrations(databaseUrl(server.url, template));
  const stop = async () => {
    await inServer(`DROP DATABASE ${pg.escapeIdentifier(template)} WITH (FORCE)`);
    await server.stop();
  };
  return { url: server.url, template, stop };
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  holder[SHARED] ??= { users: 0, server: start() };
  const shared = holder[SHARED];
  shared.users += 1;
  const server = await shared.server;
  project.provide('tidemarkTestServer', { url: server.url, template: server.template });
  return async () => {
    shared.users -= 1;
    if (shared.users > 0) return;
    delete holder[SHARED];
    await server.stop();
  };
}
