// A lock that is a file naming its holder by process id and start time. A holder that was killed is noticed,
// so a leftover file locks nobody out.

import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { processStartTime } from './proc.mjs';

/** Two processes that find the same leftover file settle it in a few rounds. */
const ATTEMPTS = 20;

/**
 * @param {string} path its folder exists
 * @returns {{release: () => void} | {holder: number}} the lock, or the process that has it
 */
export function tryLock(path) {
  const mine = JSON.stringify({ pid: process.pid, started: processStartTime(process.pid) });
  const staged = `${path}.${process.pid}`;
  writeFileSync(staged, mine);
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (link(staged, path)) return { release: () => release(path, mine) };
      const holder = liveHolder(path);
      if (holder !== null) return { holder };
      removeStale(path);
    }
  } finally {
    rmSync(staged, { force: true });
  }
  throw new Error(`lock ${path} changes hands too quickly: remove the file when nothing runs`);
}

/**
 * @param {string} path
 * @returns {number | null} the live process that has the lock
 */
export function liveHolder(path) {
  const text = read(path);
  if (text === null) return null;
  try {
    const { pid, started } = JSON.parse(text);
    return processStartTime(pid) === started ? pid : null;
  } catch {
    return null; // linked in whole, so such a file is not of our making
  }
}

function link(source, target) {
  try {
    linkSync(source, target);
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  }
}

/** Takes the file away first and looks then: between a look and a removal it could be somebody's new lock. */
function removeStale(path) {
  const aside = `${path}.stale-${process.pid}`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if (error.code === 'ENOENT') return;
    throw error;
  }
  if (liveHolder(aside) !== null) link(aside, path);
  rmSync(aside, { force: true });
}

function release(path, mine) {
  if (read(path) === mine) rmSync(path, { force: true });
}

function read(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return null;
    throw error;
  }
}
