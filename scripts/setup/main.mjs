// Set-up, then the task that was asked for.

import { join } from 'node:path';
import { handOver } from '../process/node-process.mjs';
import { findNode, rootFolder } from './find-node.mjs';
import { setUp } from './set-up.mjs';
import { toolEnvironment } from './tool.mjs';

/** What each task of package.json runs, from `scripts/`. */
const TASKS = {
  demo: ['demo/main.ts'],
  start: ['stack/main.ts'],
  bench: ['bench/main.ts'],
  test: ['testing/main.ts', 'all'],
  'test:interop': ['testing/main.ts', 'interop'],
  'test:oracle': ['testing/main.ts', 'oracle'],
  'test:crash': ['crash/main.ts'],
  'test:atomicity': ['atomicity/main.ts'],
  scale: ['scale/main.ts'],
  check: ['testing/main.ts', 'check'],
  build: ['testing/main.ts', 'build'],
  generate: ['generate.ts'],
};

/**
 * @param {string[]} args the task and its arguments; without a task only the set-up is done
 */
export async function main([task, ...args]) {
  if (task !== undefined && !(task in TASKS)) {
    console.error(`no task '${task}'; there are ${Object.keys(TASKS).join(', ')}`);
    process.exit(1);
  }
  try {
    await setUp();
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
  if (task === undefined) {
    console.log('Tidemark is set up. Next: npm run demo, or npm start.');
    return;
  }
  const [program, ...fixed] = TASKS[task];
  const node = findNode();
  // Always another process, also when this Node.js would do: one process group of its own, one delivery of
  // each signal, whichever way npm was interrupted.
  await handOver(node, [join(rootFolder, 'scripts', program), ...fixed, ...args], {
    env: toolEnvironment(node),
  });
}
