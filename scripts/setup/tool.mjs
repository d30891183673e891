// Runs the tools of the set-up quietly: their output is shown only when they fail.

import { spawn } from 'node:child_process';
import { delimiter, dirname, join } from 'node:path';
import { rootFolder } from './find-node.mjs';

/** Enough of a failed tool's output to see why. */
const OUTPUT_CHARACTERS_MAX = 8_000;

/**
 * The environment in which project tools run: the right Node.js and the project's commands first on the PATH,
 * no telemetry, no update notices.
 * @param {string} node
 */
export function toolEnvironment(node) {
  const path = [dirname(node), join(rootFolder, 'node_modules', '.bin'), process.env.PATH].join(delimiter);
  return {
    ...process.env,
    PATH: path,
    TURBO_TELEMETRY_DISABLED: '1',
    DO_NOT_TRACK: '1',
    CHECKPOINT_DISABLE: '1',
    PRISMA_HIDE_UPDATE_MESSAGE: '1',
    npm_config_update_notifier: 'false',
    npm_config_audit: 'false',
    npm_config_fund: 'false',
  };
}

/**
 * @param {{node: string, command: string[], cwd?: string, hint: string}} tool `hint`: what to do on failure
 */
export async function runTool({ node, command, cwd = rootFolder, hint }) {
  const [file, ...args] = command;
  const child = spawn(file, args, { cwd, env: toolEnvironment(node), stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', text => {
      output = (output + text).slice(-OUTPUT_CHARACTERS_MAX);
    });
  }
  const code = await new Promise(done => {
    child.once('error', error => done(error.message));
    child.once('close', (exitCode, signal) => done(signal ?? exitCode));
  });
  if (code === 0) return;
  const shown = command.join(' ');
  throw new Error(`${output.trimEnd()}\n\nSet-up failed (${code}): ${shown}\n  in ${cwd}\n${hint}`);
}

/**
 * npm as a command line on the given Node.js: the npm that called us, else the one on the PATH.
 * @param {string} node
 * @param {string[]} args
 */
export function npm(node, args) {
  const cli = process.env.npm_execpath;
  const start = cli?.endsWith('npm-cli.js') ? [node, cli] : ['npm'];
  return [...start, ...args, '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
}
