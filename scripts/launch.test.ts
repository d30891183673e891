// Goal: a command started by any Node.js runs on a new one, as if it had been started by it directly. Method:
// hand a small program over in a child process and look at its output, signals and end.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitForEnd } from './process/proc.mjs';

const PROGRAM = `
const mode: string = process.argv[2] ?? '';
let signals = 0;
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(name, () => {
    signals += 1;
    console.log(name);
    setTimeout(() => process.exit(40 + signals), 200);
  });
}
if (mode === 'exit') process.exitCode = 3;
if (mode === 'die') process.kill(process.pid, 'SIGKILL');
if (mode === 'wait') setInterval(() => {}, 1000);
const threads = process.env.UV_THREADPOOL_SIZE;
console.log(JSON.stringify({ pid: process.pid, threads, rest: process.argv.slice(3) }));
`;

let folder: string;
let program: string;
const handOverUrl = new URL('./process/node-process.mjs', import.meta.url).href;
const launchUrl = new URL('./launch.mjs', import.meta.url).href;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tidemark-launch-'));
  program = join(folder, 'program.ts');
  writeFileSync(program, PROGRAM);
});

afterAll(() => rmSync(folder, { recursive: true }));

const viaHandOver = (mode: string) =>
  `const { handOver } = await import('${handOverUrl}');
   await handOver(process.execPath, ['${program}', '${mode}', 'a b']);`;

const run = (script: string) => start(['--input-type=module', '-e', script]);

function start(args: string[]): { child: ChildProcess; text: () => string } {
  const child = spawn(process.execPath, args, { stdio: 'pipe' });
  let output = '';
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on('data', text => {
      output += text;
    });
  }
  return { child, text: () => output };
}

async function firstLine(text: () => string): Promise<{ pid: number; threads: string; rest: string[] }> {
  while (!text().includes('\n')) await new Promise(resolve => setTimeout(resolve, 10));
  return JSON.parse(text().split('\n')[0]!);
}

test('arguments, exit code and nothing but the program on the streams', async () => {
  const { child, text } = run(viaHandOver('exit'));
  expect(await once(child, 'close')).toEqual([3, null]);
  expect(text().trim().split('\n')).toHaveLength(1);
  expect(await firstLine(text)).toMatchObject({ threads: '16', rest: ['a b'] });
});

test('the end by a signal is passed on as that signal', async () => {
  const { child } = run(viaHandOver('die'));
  expect(await once(child, 'close')).toEqual([null, 'SIGKILL']);
});

test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s arrives once', async signal => {
  const { child, text } = run(viaHandOver('wait'));
  await firstLine(text);
  child.kill(signal);
  expect(await once(child, 'close')).toEqual([41, null]);
  expect(text().trim().split('\n')[1]).toBe(signal);
});

test('a starter that is killed takes the program with it', async () => {
  const { child, text } = run(viaHandOver('wait'));
  const { pid } = await firstLine(text);
  child.kill('SIGKILL');
  expect(await waitForEnd(pid, 5_000)).toBe(true);
});

test('on a new enough Node.js the program runs in the same process', async () => {
  const launcher = join(folder, 'launcher.mjs');
  const main = pathToFileURL(program).href;
  writeFileSync(launcher, `import { launch } from '${launchUrl}'; await launch(new URL('${main}'));`);
  const { child, text } = start([launcher, 'exit', 'x']);
  expect(await once(child, 'close')).toEqual([3, null]);
  expect(await firstLine(text)).toMatchObject({ pid: child.pid, threads: '16', rest: ['x'] });
});
