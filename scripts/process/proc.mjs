// What /proc says about a process. Everything that decides whether a recorded process is still the same one
// (locks, orphans) asks here; a process is named by its id and its start time, because ids are used again.

import { readFileSync } from 'node:fs';

/**
 * @param {number} pid
 * @returns {string | null} start time in clock ticks since boot; null when there is no such process or it is
 *   a zombie (ended, not yet collected)
 */
export function processStartTime(pid) {
  const stat = readProc(pid, 'stat');
  if (stat === null) return null;
  // Field 2 is the name in parentheses and may hold anything: count from behind its end.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? null : (fields[19] ?? null);
}

/**
 * @param {number} pid
 * @returns {boolean}
 */
export function isAlive(pid) {
  return processStartTime(pid) !== null;
}

/**
 * @param {number} pid
 * @returns {string[]} arguments with the program first; empty when there is no such process
 */
export function processArguments(pid) {
  const line = readProc(pid, 'cmdline');
  return line === null ? [] : line.split('\0').slice(0, -1);
}

/**
 * @param {number} pid
 * @param {string} name
 * @returns {string | null} the variable's value at the start of the process; null when it cannot be read
 */
export function processVariable(pid, name) {
  const found = readProc(pid, 'environ')
    ?.split('\0')
    .find(entry => entry.startsWith(`${name}=`));
  return found === undefined ? null : found.slice(name.length + 1);
}

/**
 * Waits until the process has ended.
 * @param {number} pid
 * @param {number} timeoutMs
 * @returns {Promise<boolean>} false when it still runs after the time
 */
export async function waitForEnd(pid, timeoutMs) {
  const started = processStartTime(pid);
  const deadline = performance.now() + timeoutMs;
  while (started !== null && processStartTime(pid) === started) {
    if (performance.now() > deadline) return false;
    await new Promise(resolve => setTimeout(resolve, 20));
  }
  return true;
}

/**
 * Sends the signal; a process that has gone meanwhile is no error.
 * @param {number} pid
 * @param {NodeJS.Signals} signal
 */
export function signalProcess(pid, signal) {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

/**
 * @param {number} pid
 * @param {string} file
 */
function readProc(pid, file) {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return null;
  }
}
