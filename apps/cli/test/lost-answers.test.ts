// Goal: an answer that is lost on its way costs nothing: what was asked for is done once, and told. Method: between the
// command and a real API stands a server of this test that passes requests on, and loses the first answers to POSTs.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { Shell } from './support/shell.ts';

let shell: Shell;

beforeAll(async () => {
  shell = await Shell.open();
  await shell.done('storage-node', 'add', 'alpha', '--control-address', '127.0.0.1:7411');
});
afterAll(() => shell.close());

interface Road {
  url: string;
  /** Status of each answer to a POST, and whether it was one that had been given before. */
  answers: { status: number; replayed: boolean }[];
}

/** `lost`: so many answers to POSTs, after the API has given them. */
async function roadThatLoses(lost: number): Promise<Road> {
  const answers: Road['answers'] = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    const headers = new Headers();
    for (const name of ['content-type', 'idempotency-key']) {
      const value = request.headers[name];
      if (value !== undefined) headers.set(name, String(value));
    }
    const passedOn = { method: request.method!, headers, ...(body !== '' && { body }) };
    const answer = await fetch(`${shell.url}${request.url}`, passedOn);
    const text = await answer.text();
    if (request.method === 'POST') {
      answers.push({ status: answer.status, replayed: answer.headers.has('idempotency-replayed') });
      if (answers.length <= lost) return response.destroy();
    }
    response.writeHead(answer.status, { 'content-type': answer.headers.get('content-type')! }).end(text);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, answers };
}

const create = (url: string, name: string) =>
  shell.run('volume', 'create', name, '--storage-node', 'alpha', '--size', '1MiB', '--url', url);

test('what was asked for is done once, and shown', async () => {
  const { url, answers } = await roadThatLoses(2);
  const { exit, out, err } = await create(url, 'web');
  expect(exit, err).toBe(0);
  expect(out).toMatch(/NAME +web\nSTATE +ready/);
  expect(answers.map(({ replayed }) => replayed)).toEqual([false, true, true]);
  const runs = JSON.parse(await shell.done('run', 'list', '--kind', 'create-volume', '--json'));
  expect(runs.items).toHaveLength(1);
});

test('a refusal that was lost is told like any other', async () => {
  const { url, answers } = await roadThatLoses(1);
  const { exit, err } = await create(url, 'web');
  expect(exit).toBe(1);
  expect(err).toContain('code: volume-name-taken');
  expect(answers.map(({ status }) => status)).toEqual([409, 409]);
});

test('where no answer comes through, the command says that it may have been done', async () => {
  const { url } = await roadThatLoses(100);
  const { exit, err } = await create(url, 'db');
  expect(exit).toBe(1);
  expect(err).toContain(url);
  expect(err).toContain('may have been done');
  expect(await shell.done('volume', 'list')).toContain('db');
});
