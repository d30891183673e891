// Programs of the system that the demo uses where they exist.

import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** File system tools live here, and many users' PATH leaves it out. */
const SYSTEM_FOLDERS = ['/usr/sbin', '/sbin', '/usr/local/sbin'];
const OUTPUT_CHARACTERS_MAX = 64_000;

/** Full path of a program; null when it is not installed. */
export function findTool(name: string): string | null {
  const folders = [...(process.env.PATH ?? '').split(delimiter).filter(Boolean), ...SYSTEM_FOLDERS];
  const found = folders.map(folder => join(folder, name)).find(isExecutable);
  return found ?? null;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

export interface ToolOptions {
  readonly cwd?: string;
  readonly environment?: NodeJS.ProcessEnv;
  readonly input?: string;
  /** Ends the program; then the call rejects. */
  readonly signal?: AbortSignal | undefined;
}

/** Runs a program to its end. Its messages are cut at the front when they are very long. */
export async function runTool(
  program: string,
  args: readonly string[],
  { cwd, environment, input = '', signal }: ToolOptions = {},
): Promise<{ code: number; messages: string }> {
  const child = spawn(program, args, {
    cwd,
    env: { ...process.env, LC_ALL: 'C', ...environment },
    stdio: ['pipe', 'pipe', 'pipe'],
    signal,
  });
  let messages = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      messages = (messages + text).slice(-OUTPUT_CHARACTERS_MAX);
    });
  }
  child.stdin.on('error', () => {}); // it ended without reading: its exit code says why
  child.stdin.end(input);
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (exitCode, ended) => {
      if (exitCode !== null) resolve(exitCode);
      else reject(new Error(`${program} was ended by ${ended}`));
    });
  });
  return { code, messages };
}

/** As `runTool`; rejects with the messages when the program fails. */
export async function runToolWell(
  program: string,
  args: readonly string[],
  options: ToolOptions = {},
): Promise<string> {
  const { code, messages } = await runTool(program, args, options);
  if (code !== 0) throw new Error(`${program} failed with exit code ${code}:\n${messages.trim()}`);
  return messages;
}
