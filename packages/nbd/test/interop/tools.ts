// Real tools that a test needs: present, absent with a reason, or required because this is CI.
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { describe, it } from 'vitest';

const run = promisify(execFile);

/**
 * A suite that needs `tools`. Where one is missing it is skipped and its name says why; with CI set, it fails,
 * because there the tools are part of the machine.
 */
export function describeWithTools(name: string, tools: readonly string[], body: () => void): void {
  const missing = tools.filter(tool => spawnSync('which', [tool]).status !== 0);
  if (missing.length === 0) {
    describe(name, body);
  } else if (process.env.CI) {
    describe(name, () => {
      it('has its tools', () => {
        throw new Error(`not installed: ${missing.join(', ')}`);
      });
    });
  } else {
    describe.skip(`${name} (not installed: ${missing.join(', ')})`, body);
  }
}

/** Runs a tool to its end; rejects with what it printed when it fails or takes too long. */
export async function tool(command: string, args: readonly string[], timeoutMs = 60_000): Promise<string> {
  const { stdout, stderr } = await run(command, args, { timeout: timeoutMs, maxBuffer: 64 << 20 });
  return stdout + stderr;
}

/** A directory of the test's own, and how to remove it. */
export function scratch(): { path: (name: string) => string; remove: () => void } {
  const directory = mkdtempSync(join(tmpdir(), 'nbd-interop-'));
  return {
    path: name => join(directory, name),
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}

/** A server in the background, listening on a unix socket once this resolves. */
export async function serve(
  command: string,
  args: readonly string[],
  socketPath: string,
): Promise<ChildProcess> {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let complaint = '';
  child.stderr?.on('data', data => {
    complaint += data;
  });
  for (let tries = 0; tries < 200; tries++) {
    if (child.exitCode !== null) throw new Error(`${command} ended: ${complaint}`);
    if (await answers(socketPath)) return child;
    await sleep(25);
  }
  child.kill('SIGKILL');
  throw new Error(`${command} does not listen on ${socketPath}: ${complaint}`);
}

export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const ended = new Promise(resolve => child.once('exit', resolve));
  child.kill('SIGTERM');
  await Promise.race([ended, sleep(3000).then(() => child.kill('SIGKILL'))]);
}

function answers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect({ path });
    socket.on('error', () => resolve(false));
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}
