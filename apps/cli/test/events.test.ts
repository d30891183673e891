// Goal: an operator sees events as they come, each once, also when the service is started anew meanwhile. Method: a
// real API on a database of its own, and the command that follows it.
import { randomUUID } from 'node:crypto';
import { PassThrough } from 'node:stream';
import { buildApp } from '@tidemark/api/app';
import { createTestDatabase, type TestDatabase } from '@tidemark/catalog/testing';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runProgram } from '../src/program.ts';

const PATIENCE = { timeout: 60_000 };
let database: TestDatabase;
let app: Awaited<ReturnType<typeof buildApp>>;
let url: string;

beforeEach(async () => {
  database = await createTestDatabase();
  app = await buildApp({ databaseUrl: database.url, queueUrl: database.url });
  url = await app.listen({ host: '127.0.0.1', port: 0 });
});
afterEach(async () => {
  await app.close();
  await database.drop();
});

const queue = () => app.catalog.runs.create({ id: randomUUID(), kind: 'reconcile', request: {} });

function run(...args: string[]) {
  const out = new PassThrough();
  const err = new PassThrough();
  const texts = { out: '', err: '' };
  out.on('data', text => {
    texts.out += text;
  });
  err.on('data', text => {
    texts.err += text;
  });
  return { exit: runProgram(args, { url, terminal: { out, err } }), texts };
}

test('follows events, and ends after as many as asked for', async () => {
  const first = await queue();
  const { exit, texts } = run('event', '--follow', '--after', '0', '--count', '2');
  await expect.poll(() => texts.out, PATIENCE).toContain(first.id);
  const second = await queue();
  expect(await exit).toBe(0);
  const lines = texts.out.trim().split('\n');
  expect(lines).toHaveLength(2);
  expect(lines[1]).toContain(`run-queued  run ${second.id}`);
});

test('filters, and prints JSON a line', async () => {
  const first = await queue();
  await queue();
  const { exit, texts } = run(
    '--json',
    'event',
    '--follow',
    '--after',
    '0',
    '--run',
    first.id,
    '--count',
    '1',
  );
  expect(await exit).toBe(0);
  expect(JSON.parse(texts.out)).toMatchObject({ runId: first.id, kind: 'run-queued' });
  const list = run('--json', 'event', 'list', '--run', first.id);
  expect(await list.exit).toBe(0);
  expect(JSON.parse(list.texts.out).items).toHaveLength(1);
});

test('goes on after a service that was started anew, with what happened meanwhile, once', async () => {
  const runs = [await queue()];
  const { exit, texts } = run('event', '--follow', '--after', '0', '--count', '3');
  await expect.poll(() => texts.out, PATIENCE).toContain(runs[0]!.id);
  const { port } = new URL(url);
  await app.close();
  await expect.poll(() => texts.err, PATIENCE).toContain('asking again');
  app = await buildApp({ databaseUrl: database.url, queueUrl: database.url });
  runs.push(await queue());
  await app.listen({ host: '127.0.0.1', port: Number(port) });
  runs.push(await queue());
  expect(await exit).toBe(0);
  const ids = texts.out
    .trim()
    .split('\n')
    .map(line => /run ([0-9a-f-]{36})/.exec(line)![1]);
  expect(ids).toEqual(runs.map(({ id }) => id));
});

test('says what it cannot follow', async () => {
  const unknown = run('event', '--follow', '--volume', 'none');
  expect(await unknown.exit).toBe(1);
  expect(unknown.texts.err).toContain('volume-not-found');
  const nothing = run('event');
  expect(await nothing.exit).toBe(2);
  expect(nothing.texts.err).toContain('--follow');
});
