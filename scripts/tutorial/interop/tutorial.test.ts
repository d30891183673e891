// Goal: docs/TUTORIAL.md is true. Method: every command of it, in its order, as a newcomer's shell runs it, on an
// installation of its own; each has to succeed and to print what the document shows.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { rootFolder } from '../../setup/find-node.mjs';
import { type CommandBlock, fits, readWalk } from '../../testing/walk.ts';

const START_MS = 120_000;
const BLOCK_MS = 120_000;

const walk = readWalk(readFileSync(join(rootFolder, 'docs', 'TUTORIAL.md'), 'utf8'));
const home = mkdtempSync(join(tmpdir(), 'tidemark-tutorial-'));
const environment: NodeJS.ProcessEnv = {
  ...process.env,
  TIDEMARK_HOME: home,
  NO_COLOR: '1',
  PATH: `${dirname(process.execPath)}:${process.env.PATH}`,
};

/** Until it says where the API is. */
async function startInBackground({ commands }: CommandBlock): Promise<string> {
  const child = spawn('bash', ['-c', `exec ${commands}`], {
    cwd: rootFolder,
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  onTestFinished(() => stop(child));
  let output = '';
  const late = AbortSignal.timeout(START_MS);
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  for (;;) {
    const url = /Tidemark is running\.\s+api +(\S+)/.exec(output)?.[1];
    if (url !== undefined) return url;
    if (child.exitCode !== null) throw new Error(`'${commands}' ended: ${output}`);
    await once(child.stdout, 'data', { signal: late }).catch(() => {
      throw new Error(`'${commands}' does not come up: ${output}`);
    });
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode === null) {
    const ended = once(child, 'exit');
    process.kill(-child.pid!, 'SIGINT');
    await ended;
  }
  rmSync(home, { recursive: true, force: true });
}

/** What it printed, and its exit status. */
function runBlock({ commands }: CommandBlock): Promise<{ code: number; output: string }> {
  return new Promise(resolve => {
    const options = { cwd: rootFolder, env: environment, timeout: BLOCK_MS };
    execFile('bash', ['-euo', 'pipefail', '-c', commands], options, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ code, output: code === 0 ? stdout : `${stdout}${stderr}` });
    });
  });
}

test('every command of the tutorial does what the tutorial says', { timeout: 600_000 }, async () => {
  expect(walk.length).toBeGreaterThan(10);
  for (const block of walk) {
    const at = `docs/TUTORIAL.md:${block.line}`;
    if (block.inBackground) {
      environment.TIDEMARK_URL = await startInBackground(block);
      continue;
    }
    const { code, output } = await runBlock(block);
    expect(code, `${at}\n${output}`).toBe(0);
    if (block.output !== null) expect(fits(output, block.output), `${at} prints\n${output}`).toBe(true);
  }
});
