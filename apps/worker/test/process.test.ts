// Goal: the command starts, says so, answers health checks, and ends cleanly on a signal. Method: the real
// launcher in a process of its own.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Fleet } from './fleet.ts';

const BIN = fileURLToPath(new URL('../bin/tidemark-worker.mjs', import.meta.url));
let fleet: Fleet;
let child: ChildProcess;

beforeEach(async () => {
  fleet = await Fleet.open();
});
afterEach(async () => {
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  await fleet.close();
});

/** The first line of the log with that message. */
async function logged(msg: string): Promise<Record<string, unknown>> {
  for await (const line of createInterface({ input: child.stdout! })) {
    const entry = JSON.parse(line);
    if (entry.msg === msg) return entry;
  }
  throw new Error(`the log ended without '${msg}'`);
}

test('it works, is healthy, and SIGTERM ends it with exit code 0', async () => {
  child = spawn(process.execPath, [BIN], {
    env: {
      PATH: process.env.PATH,
      TIDEMARK_DATABASE_URL: fleet.database.url,
      TIDEMARK_HEALTH_LISTEN: '127.0.0.1:0',
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const { health, ...line } = await logged('listening');
  expect(line).toMatchObject({ service: 'worker', owner: expect.stringMatching(/-\d+-[0-9a-f]{8}$/) });
  expect((await fetch(`http://${health}/healthz`)).status).toBe(200);
  await fleet.succeed(await fleet.register('alpha'));
  child.kill('SIGTERM');
  expect(await once(child, 'exit')).toEqual([0, null]);
});

test('without a database it says why and ends with exit code 1', async () => {
  const nowhere = 'postgres://nobody@127.0.0.1:9/nothing';
  child = spawn(process.execPath, [BIN], {
    env: { PATH: process.env.PATH, TIDEMARK_DATABASE_URL: nowhere },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  expect(await logged('not started')).toMatchObject({ err: { message: expect.stringContaining('catalog') } });
  expect(await ended).toEqual([1, null]);
});

test('unusable settings are told by name, and nothing else', async () => {
  child = spawn(process.execPath, [BIN], {
    env: { PATH: process.env.PATH, TIDEMARK_WORKER_CONCURRENCY: 'many' },
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  const ended = once(child, 'exit');
  const said = await text(child.stderr!);
  expect(said).toMatch(/^The settings are not usable:\n {2}TIDEMARK_DATABASE_URL is not set; .*\n/);
  expect(said).toMatch(/TIDEMARK_WORKER_CONCURRENCY must be a number\n$/);
  expect(await ended).toEqual([2, null]);
});
