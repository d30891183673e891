// Starts a PostgreSQL of our own from the binaries in node_modules, for `npm start`, the demo and the tests.
// One call makes the cluster if there is none, recovers what a killed run left, and answers when it accepts
// connections. Built-ins only, so that set-up scripts can use it as well.

import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { freePort, isFree } from '../process/ports.mjs';
import { processStartTime, signalProcess } from '../process/proc.mjs';
import { chooseRunner } from './binaries.mjs';
import { clusterEnvironment, createCluster } from './cluster.mjs';
import { clearPostmaster, isPostmasterOf, readPostmasterFile, shutDown } from './postmaster.mjs';

/** Recovery after a crash replays the log first: allow for a slow disk. */
const START_TIMEOUT_MS = 60_000;
/** Between choosing a free port and binding it another process can take it. */
const PORT_ATTEMPTS = 3;

/**
 * @param {import('./embedded-postgres.d.mts').PostgresOptions} options
 * @returns {Promise<import('./embedded-postgres.d.mts').EmbeddedPostgres>}
 */
export async function startPostgres(options) {
  const dataDir = resolve(options.dataDir);
  const database = options.database ?? 'tidemark';
  mkdirSync(dirname(dataDir), { recursive: true });
  const runner = chooseRunner(dataDir);
  await createCluster({ runner, dataDir, database, user: options.user, password: options.password });
  refuseLiveOwner(dataDir);
  const recovered = await clearPostmaster(dataDir);
  const log = options.log ?? `${dataDir}.log`;
  const { maxConnections = 200, environment = {} } = options;
  const settings = { runner, dataDir, log, maxConnections, environment };
  const { child, port } = await startOnPort(settings, options.port);
  writeFileSync(ownerFile(dataDir), JSON.stringify({ port, pid: process.pid, started: ownStart() }));
  const login = `${encodeURIComponent(options.user)}:${encodeURIComponent(options.password)}`;
  return handle({ child, port, recovered, url: `postgres://${login}@127.0.0.1:${port}/${database}` });
}

/**
 * @param {{child: import('node:child_process').ChildProcess, port: number, recovered: string,
 *   url: string}} parts
 */
function handle({ child, port, recovered, url }) {
  const pid = /** @type {number} */ (child.pid);
  let ended = false;
  const exited = new Promise(done => child.once('exit', (code, signal) => done({ code, signal })));
  // A caller that ends without stop() must not leave it behind; only SIGKILL escapes this.
  const onExit = () => signalProcess(pid, 'SIGINT');
  process.once('exit', onExit);
  exited.then(() => {
    ended = true;
    process.off('exit', onExit);
  });
  child.unref();
  let stopping;
  const stop = () => {
    stopping ??= ended ? Promise.resolve() : shutDown(pid).then(() => process.off('exit', onExit));
    return stopping;
  };
  return { url, port, pid, recovered, exited, stop };
}

/**
 * @param {object} settings
 * @param {number | undefined} wanted
 */
async function startOnPort(settings, wanted) {
  if (wanted !== undefined && !(await isFree(wanted))) {
    throw new Error(
      `port ${wanted} for PostgreSQL is taken: stop what listens there, or choose another port`,
    );
  }
  const kept = wanted ?? readOwner(settings.dataDir)?.port;
  let port = kept !== undefined && (await isFree(kept)) ? kept : await freePort();
  for (let attempt = 1; ; attempt++) {
    const child = spawnPostgres(settings, port);
    const ready = await waitUntilReady(child, settings.dataDir);
    if (ready === 'ready') return { child, port };
    const tail = logTail(settings.log);
    if (!/could not bind|Address already in use/.test(tail) || attempt === PORT_ATTEMPTS || wanted) {
      throw new Error(
        `PostgreSQL on ${settings.dataDir} did not start (${ready}); log ${settings.log}:\n${tail}`,
      );
    }
    port = await freePort();
  }
}

function spawnPostgres({ runner, dataDir, log, maxConnections, environment }, port) {
  const values = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    port,
    max_connections: maxConnections,
    logging_collector: 'off',
  };
  const args = [
    '-D',
    dataDir,
    ...Object.entries(values).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
  ];
  const [file, fullArgs, user] = runner.command(join(runner.bin, 'postgres'), args);
  mkdirSync(dirname(log), { recursive: true });
  const output = openSync(log, 'a', 0o644);
  try {
    // Its own process group: Ctrl-C reaches us alone, and we stop it after those who use it.
    const stdio = /** @type {const} */ (['ignore', output, output]);
    const env = { ...clusterEnvironment(), ...environment };
    return spawn(file, fullArgs, { ...user, cwd: '/', env, stdio, detached: true });
  } finally {
    closeSync(output);
  }
}

/** @returns {Promise<string>} 'ready', or why it is not */
async function waitUntilReady(child, dataDir) {
  let ended = null;
  child.once('error', error => {
    ended = error.message;
  });
  child.once('exit', (code, signal) => {
    ended = signal ? `ended by ${signal}` : `exit code ${code}`;
  });
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (ended === null) {
    const file = readPostmasterFile(dataDir);
    if (file?.ready && file.pid === child.pid) return 'ready';
    if (performance.now() > deadline) {
      await shutDown(child.pid);
      return `not ready after ${START_TIMEOUT_MS / 1000} s`;
    }
    await new Promise(done => setTimeout(done, 20));
  }
  return ended;
}

const ownerFile = dataDir => join(dataDir, 'tidemark-owner.json');
const ownStart = () => processStartTime(process.pid);

function readOwner(dataDir) {
  try {
    return JSON.parse(readFileSync(ownerFile(dataDir), 'utf8'));
  } catch {
    return null; // never started, or killed while the file was written: nobody to respect, no port to keep
  }
}

function refuseLiveOwner(dataDir) {
  const owner = readOwner(dataDir);
  const postmaster = readPostmasterFile(dataDir);
  if (!owner || !postmaster || !isPostmasterOf(postmaster.pid, dataDir)) return;
  if (processStartTime(owner.pid) !== owner.started) return;
  throw new Error(`PostgreSQL on ${dataDir} is in use by process ${owner.pid}: stop that one first`);
}

/** @param {string} path */
function logTail(path) {
  const text = readFileSync(path, 'utf8');
  return statSync(path).size === 0 ? '(empty)' : text.trimEnd().split('\n').slice(-8).join('\n');
}
