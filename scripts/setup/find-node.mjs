// Finds the Node.js that runs Tidemark: this one if it is new enough, else the one that the set-up took from
// the npm registry.

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Runs TypeScript as it is, has zstd in node:zlib. */
export const NODE_MAJOR_MIN = 24;

export const rootFolder = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
export const runtimeFolder = join(rootFolder, 'scripts', 'runtime');

/** Whether the process that asks runs on a new enough Node.js itself. */
export function ownNodeIsEnough() {
  return Number(process.versions.node.split('.')[0]) >= NODE_MAJOR_MIN;
}

/** @returns {string} where the set-up puts Node.js for this machine, there or not */
export function runtimeNode() {
  return join(runtimeFolder, 'node_modules', `node-linux-${process.arch}`, 'bin', 'node');
}

/** @returns {string | null} path of a Node.js that runs Tidemark */
export function findNode() {
  if (ownNodeIsEnough()) return process.execPath;
  return existsSync(runtimeNode()) ? runtimeNode() : null;
}
