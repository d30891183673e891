// Goal: how a run ended is told the same way by every command that waits for it, and what an operator asked of a run is
// seen in its state. Method: a server that says what it is told to, path by path.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PassThrough } from 'node:stream';
import { expect, onTestFinished, test } from 'vitest';
import { runProgram } from '../src/program.ts';

const RUN = {
  ...{ id: 'r1', kind: 'restore', state: 'succeeded', attempt: 1, restarts: 0, paused: false },
  ...{ cancelRequested: false, finishRequested: false, undoing: false, cleanupPending: false },
  ...{ speedBytesPerSecond: null, reason: null, result: null, error: null, ending: null },
  ...{ volumeId: 'v1', backupId: 'b1', checkpointAt: null, finishedAt: null },
  progress: { currentBytes: 0, totalBytes: 0, sentBytes: 0, dirtyBytes: 0 },
  createdAt: '2026-11-21T08:00:00.000Z',
  steps: [],
};

type Answers = Record<string, (count: number) => { status?: number; body: object }>;

/** `answers`: by method and path; each is told how often it was asked before. Others are not found. */
async function tidemark(answers: Answers, ...args: string[]) {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const name = `${request.method} ${request.url}`;
    const count = asked.filter(one => one === name).length;
    asked.push(name);
    const none = { title: 'Not there', detail: 'not there', code: 'backup-not-found' };
    const { status = 200, body } = answers[name]?.(count) ?? { status: 404, body: none };
    response.writeHead(status).end(JSON.stringify(body));
  });
  onTestFinished(() => void server.close());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const [out, err] = [new PassThrough(), new PassThrough()];
  const exit = await runProgram(args, { url, terminal: { out, err } });
  return { exit, asked, out: String(out.read() ?? ''), err: String(err.read() ?? '') };
}

const watched = (run: object) =>
  tidemark({ 'GET /v1/runs/r1': () => ({ body: { ...RUN, ...run } }) }, 'run', 'watch', 'r1');

test('watching a run ends as the command would have ended that began it', async () => {
  const damage = { bytes: 65_536, ranges: [{ offset: 131_072, length: 65_536 }], truncated: false };
  const holed = await watched({ result: { damage } });
  expect([holed.exit, holed.out]).toEqual([3, expect.stringMatching(/^STATE +succeeded$/m)]);
  expect(holed.err).toMatch(/^complete with holes: 64 KiB/m);
  expect((await watched({ result: { damage: null } })).exit).toBe(0);
  const damaged = await watched({ kind: 'verify', result: { result: 'damaged', detail: null } });
  expect([damaged.exit, damaged.err]).toEqual([1, expect.stringMatching(/^code: backup-damaged$/m)]);
  const different = await watched({ kind: 'audit', result: { result: 'different' } });
  expect([different.exit, different.err]).toEqual([1, expect.stringMatching(/^code: audit-failed$/m)]);
  expect((await watched({ kind: 'audit', result: { result: 'equal' } })).exit).toBe(0);
});

test('what a cancelled run leaves is told in the words of the service', async () => {
  const ending = "The restore run r1 was cancelled. Volume 'web' may hold a mixture.";
  const { exit, err } = await watched({ state: 'cancelled', ending });
  expect([exit, err]).toEqual([1, expect.stringContaining(`The run was cancelled\n${ending}\n`)]);
});

test.each([
  [{ state: 'running', cancelRequested: true }, 'cancelling'],
  [{ state: 'running', undoing: true }, 'undoing'],
  [{ state: 'running', finishRequested: true }, 'finishing'],
  [{ state: 'running', paused: true }, 'paused'],
  [{ state: 'queued', cancelRequested: true }, 'cancelling'],
  [{ state: 'failed', cleanupPending: true }, 'failed, cleaning up'],
  [{ state: 'cancelled', cancelRequested: true, undoing: true }, 'cancelled'],
  [{ state: 'queued', paused: true }, 'queued'],
])('a run with %j is listed as %s', async (flags, words) => {
  const items = [{ ...RUN, ...flags }];
  const page = { body: { items, nextCursor: null } };
  const { out } = await tidemark({ 'GET /v1/runs?limit=50': () => page }, 'run', 'list');
  expect(out).toMatch(new RegExp(`^r1 +restore +${words} +-`, 'm'));
});

test('an export is followed until it is open, however long the freeze takes', async () => {
  const run = { ...RUN, kind: 'export', state: 'running' };
  const open = {
    ...run,
    checkpointAt: '2026-11-21T08:00:00.000Z',
    result: { uri: 'nbd://alpha:10809/x', contexts: ['base:allocation'], sizeBytes: 4096 },
  };
  const answers: Answers = {
    'POST /v1/exports': () => ({ status: 202, body: { run } }),
    'GET /v1/runs/r1': count => ({ body: count < 2 ? run : open }),
  };
  const { exit, asked, out, err } = await tidemark(answers, 'export', 'create', '--volume', 'web');
  expect([exit, asked[0], asked.length]).toEqual([0, 'POST /v1/exports', 4]);
  expect(out).toMatch(/^RUN +r1\nURI +nbd:\/\/alpha:10809\/x$/m);
  expect(err).toContain('export r1: ');
});

test('a backup that waits to go is shown, and one that is gone is not', async () => {
  const prune = {
    ...RUN,
    kind: 'prune',
    result: { removed: [], waiting: [{ backup: 'b1', why: 'in use' }] },
  };
  const backup = { id: 'b1', state: 'hidden' };
  const started = { 'DELETE /v1/backups/b1': () => ({ status: 202, body: { run: prune, backup } }) };
  const args = ['backup', 'delete', 'b1', '--json'];
  const waits = await tidemark({ ...started, 'GET /v1/backups/b1': () => ({ body: backup }) }, ...args);
  expect(JSON.parse(waits.out).backup).toEqual(backup);
  const gone = await tidemark(started, ...args);
  expect([gone.exit, JSON.parse(gone.out).backup]).toEqual([0, null]);
});

test('a plan names volumes, what waits is counted apart, and every checkpoint has its reasons', async () => {
  const item = (backup: string, more: object) => ({
    ...{ backup, volumeId: 'v1', volume: 'web', pointInTime: null, goes: true, keep: [], blockedBy: null },
    ...{
      checkpoint: { id: 'c', name: 'mon', goes: false, keep: [] },
      freedBytes: 1024,
      awaitedBy: [],
      ...more,
    },
  });
  const items = [
    item('b3', { goes: false, keep: ['last 1'] }),
    item('b2', { volume: null }),
    item('b1', { blockedBy: 'in use' }),
  ];
  const checkpoints = [
    {
      id: 'c2',
      name: 'noon',
      volumeId: 'v1',
      goes: false,
      keep: ['taken without a backup'],
      pointInTime: null,
    },
    { id: 'c1', name: 'mon', volumeId: 'v1', goes: true, keep: [], pointInTime: null },
  ];
  const body = { run: null, items, checkpoints, freedBytes: 1024 };
  const args = ['prune', '--repository', 'nightly', '--keep-last', '1', '--dry-run'];
  const { out } = await tidemark({ 'POST /v1/prune': () => ({ body }) }, ...args);
  expect(out).toMatch(/^BACKUP +VOLUME +CHECKPOINT/m);
  expect(out).toMatch(/^b3 +web +mon .* no +- +last 1$/m);
  expect(out).toMatch(/^b2 +v1 +mon .* yes/m);
  expect(out).toMatch(/^1 of 3 go, 1 later; at most 1 KiB come back$/m);
  expect(out).toMatch(/^CHECKPOINT +VOLUME +POINT IN TIME +GOES +WHY$/m);
  expect(out).toMatch(/^noon +web +- +no +taken without a backup$/m);
  expect(out).toMatch(/^mon +web +- +yes +no backup holds it any more$/m);
});

test('events show whose run they are of, and what they say', async () => {
  const items = [
    {
      id: 7,
      kind: 'volume-created',
      subjectType: 'volume',
      subjectId: 'v1',
      runId: 'r1',
      data: { name: 'web' },
    },
  ].map(event => ({ ...event, createdAt: '2026-11-21T08:00:00.000Z' }));
  const page = { body: { items, nextCursor: null } };
  const asked = 'GET /v1/events?limit=100&order=newest-first';
  const { out } = await tidemark({ [asked]: () => page }, 'event', 'list');
  expect(out).toMatch(/^ID +TIME +KIND +SUBJECT +RUN +DATA$/m);
  expect(out).toMatch(/^7 .* volume v1 +r1 +\{"name":"web"\}$/m);
});

test('checkpoints to define anew are named by id, with a name of their own if wanted', async () => {
  const ids = ['5d0c0a3e-3f4b-4a57-9a3d-7f8f6f1b2c02', '9a1f6c2d-7b5e-4e3a-8c4d-2e1f0a9b8c03'];
  const given = ['--checkpoint', `${ids[0]}=monday`, '--checkpoint', ids[1]!];
  const bodies: unknown[] = [];
  const server = createServer(async (request, response) => {
    let text = '';
    for await (const part of request) text += part;
    bodies.push(JSON.parse(text));
    response.writeHead(202).end(JSON.stringify({ run: RUN }));
  });
  onTestFinished(() => void server.close());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const terminal = { out: new PassThrough(), err: new PassThrough() };
  const exit = await runProgram(['checkpoint', 'redefine', 'web', ...given, '--no-wait'], { url, terminal });
  expect(exit).toBe(0);
  expect(bodies).toEqual([{ checkpoints: [{ id: ids[0], name: 'monday' }, { id: ids[1] }] }]);
});
