// Makes a PostgreSQL cluster. It is made in a folder beside the data directory and renamed at the end, so a
// data directory either is complete or does not exist, whenever we are killed.

import { spawn } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { isAlive } from '../process/proc.mjs';

/**
 * Makes the cluster and an empty database in it, unless the data directory exists.
 * @param {{runner: import('./binaries.mjs').Runner, dataDir: string, database: string, user: string,
 *   password: string}} options
 */
export async function createCluster({ runner, dataDir, database, user, password }) {
  removeUnfinished(dataDir);
  if (existsSync(join(dataDir, 'PG_VERSION'))) return;
  if (existsSync(dataDir) && readdirSync(dataDir).length > 0) {
    throw new Error(
      `${dataDir} is neither empty nor a PostgreSQL cluster: move it away or choose another folder`,
    );
  }
  if (!/^[a-z_][a-z0-9_]*$/.test(database)) throw new Error(`database name '${database}' is not [a-z0-9_]+`);
  const staging = `${dataDir}.init-${process.pid}`;
  try {
    const data = join(staging, 'data');
    const passwordFile = join(staging, 'password');
    mkdirSync(staging, { mode: 0o755 });
    mkdirSync(data, { mode: 0o700 });
    writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
    if (runner.user)
      for (const path of [data, passwordFile]) chownSync(path, runner.user.uid, runner.user.gid);
    const locale = ['--encoding=UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8'];
    const access = [`--username=${user}`, '--auth=scram-sha-256', `--pwfile=${passwordFile}`];
    await run(runner, 'initdb', ['-D', data, ...locale, ...access, '--no-instructions']);
    await run(runner, 'postgres', ['--single', '-D', data, 'postgres'], `CREATE DATABASE ${database}\n`);
    if (existsSync(dataDir)) rmSync(dataDir, { recursive: true });
    renameSync(data, dataDir);
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
}

/** The environment of a PostgreSQL program: ours without what would change its meaning. */
export function clusterEnvironment() {
  const kept = Object.entries(process.env).filter(([name]) => !/^(PG|LC_|LANG|LD_)/.test(name));
  return { ...Object.fromEntries(kept), LC_ALL: 'C' };
}

/**
 * Removes what a killed run left half-made.
 * @param {string} dataDir
 */
function removeUnfinished(dataDir) {
  const prefix = `${basename(dataDir)}.init-`;
  for (const name of readdirSync(dirname(dataDir))) {
    if (!name.startsWith(prefix)) continue;
    const maker = Number(name.slice(prefix.length));
    if (maker !== process.pid && isAlive(maker)) continue;
    rmSync(join(dirname(dataDir), name), { recursive: true, force: true });
  }
}

/**
 * @param {import('./binaries.mjs').Runner} runner
 * @param {string} program
 * @param {string[]} args
 * @param {string} [input]
 */
async function run(runner, program, args, input = '') {
  const [file, fullArgs, user] = runner.command(join(runner.bin, program), args);
  const child = spawn(file, fullArgs, { ...user, cwd: '/', env: clusterEnvironment(), stdio: 'pipe' });
  let output = '';
  child.stdout.on('data', text => {
    output += text;
  });
  child.stderr.on('data', text => {
    output += text;
  });
  child.stdin.on('error', () => {}); // it ended before reading: its exit code says why
  child.stdin.end(input);
  const code = await new Promise((done, fail) => {
    child.once('error', fail);
    child.once('close', done);
  });
  // Single-user mode reports a failed statement only in words.
  if (code !== 0 || / (ERROR|FATAL|PANIC): /.test(output)) {
    throw new Error(`${program} failed with exit code ${code}: ${output.trim()}`);
  }
}
