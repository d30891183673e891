// What the set-up has done is remembered in node_modules: whoever removes that folder removes the memory too.

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/**
 * @param {string} root
 * @returns {Record<string, string>} step → fingerprint of what it was done for
 */
export function readStamp(root) {
  return readJson(stampFile(root)) ?? {};
}

/**
 * @param {string} root
 * @param {string} step
 * @param {string} fingerprint
 */
export function writeStamp(root, step, fingerprint) {
  const path = stampFile(root);
  mkdirSync(dirname(path), { recursive: true });
  const staged = `${path}.${process.pid}`;
  writeFileSync(staged, `${JSON.stringify({ ...readStamp(root), [step]: fingerprint })}\n`);
  renameSync(staged, path);
}

/**
 * @param {string[]} paths a missing file counts as empty
 * @returns {string} a hash of their names and contents
 */
export function fingerprint(paths) {
  const hash = createHash('sha256');
  for (const path of paths) hash.update(`${path}\0${readText(path) ?? ''}\0`);
  return hash.digest('hex');
}

/**
 * Whether node_modules holds what package-lock.json asks for on this machine, by npm's own record of it
 * (written when an installation is complete).
 * @param {string} root
 */
export function dependenciesMatch(root) {
  const wanted = readJson(join(root, 'package-lock.json'))?.packages;
  const present = readJson(join(root, 'node_modules', '.package-lock.json'))?.packages;
  if (!wanted || !present) return false;
  return Object.entries(wanted).every(([path, entry]) => {
    if (!path.startsWith('node_modules/')) return true; // the project itself and its workspaces
    const found = present[path];
    if (!found) return entry.optional === true && !isForThisMachine(entry);
    return found.version === entry.version && found.integrity === entry.integrity;
  });
}

/** Packages that name no platform are optional peers, which npm leaves out; libc is not ours to know. */
function isForThisMachine({ os, cpu, libc }) {
  return Boolean(os?.includes('linux') && cpu?.includes(process.arch) && !libc);
}

function stampFile(root) {
  return join(root, 'node_modules', '.tidemark-setup.json');
}

function readJson(path) {
  const text = readText(path);
  if (text === null) return null;
  try {
    return JSON.parse(text);
  } catch {
    return null; // half-written by a killed run: do the step again
  }
}

function readText(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return null;
    throw error;
  }
}
