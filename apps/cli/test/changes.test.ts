// Goal: a list of changes that is not whole is never taken for one. Method: a server that says what it is told to.
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PassThrough } from 'node:stream';
import { expect, onTestFinished, test } from 'vitest';
import { runProgram } from '../src/program.ts';

const LIST = ['checkpoint', 'changed-blocks', 'disk', '--since', 'monday'];
const END = '{"end":true,"granularityBytes":65536,"extents":2}\n';

async function list(answer: RequestListener, ...more: string[]) {
  const server = createServer(answer).listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const [out, err] = [new PassThrough(), new PassThrough()];
  const exit = await runProgram([...LIST, ...more], { url, terminal: { out, err } });
  return { exit, out: String(out.read() ?? ''), err: String(err.read() ?? '') };
}

test('the lines of a whole list are printed as a table, or as they came', async () => {
  const answer: RequestListener = (request, response) => {
    expect(request.url).toBe('/v1/volumes/disk/changed-blocks?since=monday');
    expect(request.headers.accept).toBe('application/x-ndjson');
    response.write('{"offset":0,"length":65536}\n{"offset":1310');
    setTimeout(() => response.end(`72,"length":65536}\n${END}`), 20);
  };
  expect(await list(answer)).toEqual({
    exit: 0,
    out: 'OFFSET            LENGTH\n0                 65536\n131072            65536\n',
    err: '',
  });
  const { out } = await list(answer, '--json');
  expect(out).toBe(`{"offset":0,"length":65536}\n{"offset":131072,"length":65536}\n${END}`);
  const none: RequestListener = (_request, response) => response.end(END);
  expect((await list(none)).out).toBe('none\n');
});

test('a list without its last line fails, whether it ended or broke off', async () => {
  const line = '{"offset":0,"length":65536}\n';
  const ended = await list((_request, response) => response.end(line));
  expect(ended).toMatchObject({ exit: 1, err: expect.stringContaining('broke off after 1 lines') });
  const broken = await list((_request, response) => {
    response.write(line);
    setTimeout(() => response.destroy(), 20);
  });
  expect(broken).toMatchObject({ exit: 1, err: expect.stringContaining('broke off') });
});

test('a refusal is told in its words', async () => {
  const problem = { title: 'No', detail: 'It is not known.', code: 'checkpoint-inconsistent' };
  const refused = await list((_request, response) => {
    response.writeHead(409, { 'content-type': 'application/problem+json' });
    response.end(JSON.stringify(problem));
  });
  expect(refused).toMatchObject({ exit: 1, err: expect.stringContaining('checkpoint-inconsistent') });
});
