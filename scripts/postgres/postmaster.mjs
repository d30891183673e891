// Who works on a data directory: reads postmaster.pid, ends a postmaster whose starter was killed, and
// removes the file when it names nobody, so that a new postmaster can start.

import { readFileSync, realpathSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { processArguments, processStartTime, signalProcess, waitForEnd } from '../process/proc.mjs';

/** A fast shutdown writes a checkpoint: seconds on a slow disk. */
const FAST_SHUTDOWN_MS = 20_000;
/** An immediate shutdown writes nothing; the next start replays the log. */
const IMMEDIATE_SHUTDOWN_MS = 5_000;
/** Backends of a killed postmaster notice it at their next wait. */
const DETACH_MS = 10_000;

/**
 * The lines of postmaster.pid that matter here (PostgreSQL, miscadmin.h: LOCK_FILE_LINE_*).
 * @param {string} dataDir
 * @returns {{pid: number, port: number, sharedMemoryId: number | null, ready: boolean} | null}
 */
export function readPostmasterFile(dataDir) {
  let text;
  try {
    text = readFileSync(join(dataDir, 'postmaster.pid'), 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return null;
    throw error;
  }
  const lines = text.split('\n');
  const memory = /^\s*\d+\s+(\d+)/.exec(lines[6] ?? '');
  return {
    pid: Number(lines[0]),
    port: Number(lines[3] ?? 0),
    sharedMemoryId: memory ? Number(memory[1]) : null,
    ready: lines[7]?.trim() === 'ready',
  };
}

/**
 * Frees the data directory. Afterwards no process works on it and there is no postmaster.pid.
 * @param {string} dataDir
 * @returns {Promise<'free' | 'stale' | 'stopped'>} what was found: nothing, a file that named nobody, or an
 *   orphan that has been shut down
 */
export async function clearPostmaster(dataDir) {
  const file = readPostmasterFile(dataDir);
  if (!file) return 'free';
  const running = isPostmasterOf(file.pid, dataDir);
  if (running) await shutDown(file.pid);
  if (file.sharedMemoryId !== null) await waitForDetach(file.sharedMemoryId, dataDir);
  rmSync(join(dataDir, 'postmaster.pid'), { force: true });
  return running ? 'stopped' : 'stale';
}

/**
 * Fast shutdown, then harder ones. Afterwards the process has ended.
 * @param {number} pid
 */
export async function shutDown(pid) {
  const steps = /** @type {[NodeJS.Signals, number][]} */ ([
    ['SIGINT', FAST_SHUTDOWN_MS],
    ['SIGQUIT', IMMEDIATE_SHUTDOWN_MS],
    ['SIGKILL', IMMEDIATE_SHUTDOWN_MS],
  ]);
  const started = processStartTime(pid);
  if (started === null) return;
  for (const [signal, timeoutMs] of steps) {
    if (processStartTime(pid) === started) signalProcess(pid, signal);
    if (await waitForEnd(pid, timeoutMs)) return;
  }
  throw new Error(
    `PostgreSQL process ${pid} does not end, not even when killed: look at the disk it waits for`,
  );
}

/**
 * Whether the process lives and is a postmaster on this very data directory.
 * @param {number} pid
 * @param {string} dataDir
 */
export function isPostmasterOf(pid, dataDir) {
  if (!(pid > 1) || processStartTime(pid) === null) return false;
  const args = processArguments(pid);
  const directory = args[args.indexOf('-D') + 1];
  if (basename(args[0] ?? '') !== 'postgres' || !args.includes('-D') || !directory) return false;
  try {
    return realpathSync(directory) === realpathSync(dataDir);
  } catch {
    return false;
  }
}

/**
 * Backends outlive a killed postmaster for a moment; two postmasters' backends on one directory would destroy
 * it. PostgreSQL tells by the attach count of a small shared memory segment, and so do we.
 * @param {number} sharedMemoryId
 * @param {string} dataDir
 */
async function waitForDetach(sharedMemoryId, dataDir) {
  const deadline = performance.now() + DETACH_MS;
  while (attachCount(sharedMemoryId) > 0) {
    if (performance.now() > deadline) {
      throw new Error(
        `processes of an ended PostgreSQL still work on ${dataDir}: end them, then start again`,
      );
    }
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

/** @param {number} sharedMemoryId */
function attachCount(sharedMemoryId) {
  let table;
  try {
    table = readFileSync('/proc/sysvipc/shm', 'utf8');
  } catch {
    return 0;
  }
  const row = table
    .split('\n')
    .slice(1)
    .map(line => line.trim().split(/\s+/))
    .find(fields => Number(fields[1]) === sharedMemoryId);
  return row ? Number(row[6]) : 0;
}
