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

test('lists the newest in the order of time, page after page back to the first', async () => {
  for (let count = 0; count < 7; count += 1) await queue();
  const list = async (...args: string[]) => {
    const { exit, texts } = run('event', 'list', ...args);
    expect(await exit, texts.err).toBe(0);
    const [, cursor] = /^more: --cursor (\d+)$/m.exec(texts.out) ?? [];
    return { ids: [...texts.out.matchAll(/^(\d+) /gm)].map(([, id]) => Number(id)), cursor };
  };
  expect((await list()).ids).toEqual([1, 2, 3, 4, 5, 6, 7]);
  const newest = await list('--limit', '3');
  expect(newest.ids).toEqual([5, 6, 7]);
  const before = await list('--limit', '3', '--cursor', newest.cursor!);
  expect(before.ids).toEqual([2, 3, 4]);
  const first = await list('--limit', '3', '--cursor', before.cursor!);
  expect(first).toEqual({ ids: [1], cursor: undefined });
});

test('lists the oldest where a point to begin at is given', async () => {
  for (let count = 0; count < 5; count += 1) await queue();
  const list = async (...args: string[]) => {
    const { exit, texts } = run('--json', 'event', 'list', '--limit', '2', ...args);
    expect(await exit, texts.err).toBe(0);
    const { items, nextCursor } = JSON.parse(texts.out);
    return { ids: items.map(({ id }: { id: number }) => id), nextCursor };
  };
  expect(await list()).toEqual({ ids: [4, 5], nextCursor: '4' });
  expect(await list('--after', '1')).toEqual({ ids: [2, 3], nextCursor: '3' });
  expect(await list('--after', '1', '--cursor', '3')).toEqual({ ids: [4, 5], nextCursor: null });
  expect(await list('--since', '2020-01-01')).toEqual({ ids: [1, 2], nextCursor: '2' });
});

test('says what it cannot follow', async () => {
  const unknown = run('event', '--follow', '--volume', 'none');
  expect(await unknown.exit).toBe(1);
  expect(unknown.texts.err).toContain('volume-not-found');
  const nothing = run('event');
  expect(await nothing.exit).toBe(2);
  expect(nothing.texts.err).toContain('--follow');
});
