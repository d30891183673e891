// How every Node.js process of the project is started: quiet about type stripping, with enough threads for
// files, with what earlier ones compiled, in its own process group, and ending with its starter.

import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rootFolder } from '../setup/find-node.mjs';

/** libuv's four threads would make every volume of a storage node wait for four slow disk writes. */
const THREADS = '16';
const FOLLOW_PARENT = fileURLToPath(new URL('./follow-parent.mjs', import.meta.url));

/**
 * Code without its types, and compiled: reading it takes half the time that making it does. What does not fit the
 * sources any more is not used; where the folder cannot be written nothing is kept.
 */
export const compiledFolder = join(rootFolder, 'node_modules', '.cache', 'tidemark-compiled');

/**
 * What is set already stays.
 * @param {NodeJS.ProcessEnv} environment
 */
export function nodeEnvironment(environment) {
  return { UV_THREADPOOL_SIZE: THREADS, NODE_COMPILE_CACHE: compiledFolder, ...environment };
}

/**
 * Starts `node args…`. A terminal's Ctrl-C does not reach it (own process group): its starter decides when.
 * @param {string} node
 * @param {string[]} args
 * @param {{env?: NodeJS.ProcessEnv, cwd?: string, stdio?: Array<'inherit' | 'ignore' | number>}} [options]
 */
export function spawnNode(
  node,
  args,
  { env = process.env, cwd, stdio = ['inherit', 'inherit', 'inherit'] } = {},
) {
  const flags = ['--disable-warning=ExperimentalWarning', '--import', FOLLOW_PARENT];
  return spawn(node, [...flags, ...args], {
    cwd,
    env: nodeEnvironment(env),
    stdio: [...stdio, 'ipc'],
    detached: true,
  });
}

/**
 * Lets another process take this one's place: same streams, every signal passed on once, and at the end the
 * same exit code or signal. Never returns; this process ends with the other.
 * @param {string} node
 * @param {string[]} args
 * @param {{env?: NodeJS.ProcessEnv, cwd?: string}} [options]
 * @returns {Promise<never>}
 */
export async function handOver(node, args, options = {}) {
  const child = spawnNode(node, args, options);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  const [code, signal] = await new Promise((done, fail) => {
    child.once('error', fail);
    child.once('exit', (...result) => done(result));
  });
  if (signal === null) process.exit(code);
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
  // Only reached when this process ignores the signal: say it as a shell would.
  process.exit(128 + constants.signals[signal]);
}
