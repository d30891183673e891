// Goal: the installed command serves, says so in one line, and ends cleanly when it is told to; settings
// that cannot work stop it with every fault named.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { createTestDatabase, type TestDatabase } from '@tidemark/catalog/testing';
import { afterEach, beforeEach, expect, test } from 'vitest';

const BIN = fileURLToPath(new URL('../bin/tidemark-api.mjs', import.meta.url));
let database: TestDatabase;
let child: ChildProcess | null = null;

beforeEach(async () => {
  database = await createTestDatabase();
});

afterEach(async () => {
  child?.kill('SIGKILL');
  await database.drop();
});

function start(env: Record<string, string>) {
  child = spawn(process.execPath, [BIN], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return { lines: createInterface({ input: child.stdout! }), exited: once(child, 'exit') };
}

async function listeningAt(lines: ReturnType<typeof createInterface>): Promise<string> {
  for await (const line of lines) {
    const { msg, url } = JSON.parse(line) as { msg: string; url?: string };
    if (msg === 'listening') return url!;
  }
  throw new Error('it ended before it listened');
}

test.each(['SIGTERM', 'SIGINT'] as const)('serves until %s, and exits 0', async signal => {
  const { lines, exited } = start({
    TIDEMARK_DATABASE_URL: database.url,
    TIDEMARK_API_LISTEN: '127.0.0.1:0',
  });
  const seen: { msg: string; url?: string }[] = [];
  for await (const line of lines) {
    const entry = JSON.parse(line);
    seen.push(entry);
    if (entry.msg !== 'listening') continue;
    const ready = () => fetch(`${entry.url}/readyz`).then(answer => answer.status);
    await expect.poll(ready, { timeout: 20_000 }).toBe(200);
    child?.kill(signal);
  }
  expect(await exited).toEqual([0, null]);
  // On a slow machine it is asked whether it is ready before it is.
  const own = seen.map(entry => entry.msg).filter(msg => !/^bound |^request refused$/.test(msg));
  expect(own).toEqual(['listening', 'stopping', 'stopped']);
});

test('on SIGTERM it answers who waits with what is known, ends streams, takes no more, and exits 0', async () => {
  const { lines, exited } = start({
    TIDEMARK_DATABASE_URL: database.url,
    TIDEMARK_API_LISTEN: '127.0.0.1:0',
  });
  const url = await listeningAt(lines);
  await expect.poll(() => fetch(`${url}/readyz`).then(({ status }) => status), { timeout: 20_000 }).toBe(200);
  const stream = await fetch(`${url}/v1/events`, { headers: { accept: 'text/event-stream' } });
  const waiting = fetch(`${url}/v1/storage-nodes?wait=done&waitTimeoutMs=60000`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'alpha', controlAddress: '127.0.0.1:1' }),
  });
  const queued = async (): Promise<{ id: string }[]> => {
    const answer = await fetch(`${url}/v1/runs?state=queued`);
    return ((await answer.json()) as { items: { id: string }[] }).items;
  };
  await expect.poll(queued, { timeout: 20_000 }).toHaveLength(1);
  const [run] = await queued();
  const events = stream.body!.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ''; !text.includes('run-queued'); ) text += (await events.read()).value ?? '';
  child?.kill('SIGTERM');
  const answer = await waiting;
  expect(answer.status).toBe(504);
  expect(await answer.json()).toMatchObject({
    code: 'wait-timed-out',
    detail: expect.stringContaining(run!.id),
  });
  // To its end: of a connection that was cut a read rejects.
  while (!(await events.read()).done);
  expect(await exited).toEqual([0, null]);
  await expect(fetch(`${url}/readyz`)).rejects.toThrow();
});

test('unusable settings are told by name, and nothing else', async () => {
  child = spawn(process.execPath, [BIN], {
    env: {
      PATH: process.env.PATH,
      TIDEMARK_DATABASE_URL: 'mysql://x',
      TIDEMARK_API_LISTEN: 'here',
    },
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  const exited = once(child, 'exit');
  const said = await text(child.stderr!);
  expect(said).toMatch(/^The settings are not usable:\n {2}TIDEMARK_DATABASE_URL must begin/);
  expect(said).toMatch(/TIDEMARK_API_LISTEN must be host:port[^\n]*\n$/);
  expect(await exited).toEqual([2, null]);
});

test('an address that is taken stops it, naming the address', async () => {
  const first = start({ TIDEMARK_DATABASE_URL: database.url, TIDEMARK_API_LISTEN: '127.0.0.1:0' });
  const [line] = (await once(first.lines, 'line')) as [string];
  const host = /127\.0\.0\.1:\d+/.exec(line)![0];
  const holder = child;
  const second = start({ TIDEMARK_DATABASE_URL: database.url, TIDEMARK_API_LISTEN: host });
  const [fault] = (await once(second.lines, 'line')) as [string];
  expect(fault).toContain(`EADDRINUSE: address already in use ${host}`);
  expect(await second.exited).toEqual([1, null]);
  holder?.kill('SIGTERM');
  expect(await first.exited).toEqual([0, null]);
});
