// Runs once before the suites of a vitest project that names it: a PostgreSQL server for them, with a
// migrated database that each suite's own is copied from. Projects of one vitest process share the server, and all
// that was started for them is gone after the last one.
import { randomBytes } from 'node:crypto';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import {
  type ContainerPlace,
  startTestServers,
  type TestServers,
} from '../../../../scripts/docker/testing/test-servers.ts';
import { applyMigrations } from '../migrate.ts';
import { testServerKind, testServerUrl } from './config.ts';
import { databaseUrl, inDatabase } from './server.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    tidemarkTestServer: ProvidedServer;
  }
}

interface ProvidedServer {
  url: string;
  template: string;
  /** Null: suites start what else they need as processes of this machine. */
  containers: ContainerPlace | null;
}

interface Server extends ProvidedServer {
  stop(): Promise<void>;
}

interface Shared {
  users: number;
  server: Promise<Server>;
}

// Every project loads this file anew; only the process is common to them.
const SHARED = Symbol.for('tidemark.test-postgres');
const holder = globalThis as { [SHARED]?: Shared };

/** Not ours to stop. */
function startedElsewhere(databaseUrl: string): TestServers {
  const description = 'the PostgreSQL that TIDEMARK_TEST_DATABASE_URL names';
  return { databaseUrl, containers: undefined, description, stop: async () => {} };
}

async function start(): Promise<Server> {
  const servers = testServerUrl ? startedElsewhere(testServerUrl) : await startTestServers(testServerKind());
  process.stdout.write(`tests run on ${servers.description}\n`);
  const { databaseUrl: url, containers } = servers;
  const template = `tidemark_template_${randomBytes(6).toString('hex')}`;
  const inServer = (sql: string) => inDatabase(url, client => client.query(sql));
  // What the tests write need not outlive a power failure.
  if (!testServerUrl) {
    await inServer('ALTER SYSTEM SET fsync = off');
    await inServer('SELECT pg_reload_conf()');
  }
  await inServer(`CREATE DATABASE ${pg.escapeIdentifier(template)}`);
  await applyMigrations(databaseUrl(url, template));
  const stop = async () => {
    await inServer(`DROP DATABASE ${pg.escapeIdentifier(template)} WITH (FORCE)`);
    await servers.stop();
  };
  return { url, template, containers: containers ?? null, stop };
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  holder[SHARED] ??= { users: 0, server: start() };
  const shared = holder[SHARED];
  shared.users += 1;
  const server = await shared.server;
  const { url, template, containers } = server;
  project.provide('tidemarkTestServer', { url, template, containers });
  return async () => {
    shared.users -= 1;
    if (shared.users > 0) return;
    delete holder[SHARED];
    await server.stop();
  };
}
