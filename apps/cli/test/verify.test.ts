// Goal: damage that a verification finds is told in words and by the exit status, and a paused run is seen to be
// paused. Method: a server that says what it is told to.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PassThrough } from 'node:stream';
import { expect, onTestFinished, test } from 'vitest';
import { runProgram } from '../src/program.ts';

const RUN = {
  ...{ id: 'r1', kind: 'verify', state: 'succeeded', attempt: 1, restarts: 0, paused: false },
  ...{ speedBytesPerSecond: null, reason: null, error: null, checkpointAt: null, finishedAt: null },
  progress: { currentBytes: 0, totalBytes: 0, sentBytes: 0, dirtyBytes: 0 },
  createdAt: '2026-11-21T08:00:00.000Z',
  steps: [],
};

/** Every path answers with the same document. */
async function tidemark(answer: object, ...args: string[]) {
  const server = createServer((_request, response) => void response.end(JSON.stringify(answer)));
  onTestFinished(() => void server.close());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const [out, err] = [new PassThrough(), new PassThrough()];
  const exit = await runProgram(args, { url, terminal: { out, err } });
  return { exit, out: String(out.read() ?? ''), err: String(err.read() ?? '') };
}

const verified = (result: object) => ({ run: { ...RUN, result }, backup: null });

test('a damaged backup fails the command, and its places are listed', async () => {
  const ranges = [{ offset: 131_072, length: 65_536 }];
  const detail = 'b0: at 131072, differs';
  const answer = verified({ result: 'damaged', damagedBytes: 65_536, ranges, truncated: false, detail });
  const damaged = await tidemark(answer, 'backup', 'verify', 'b1');
  expect(damaged.exit).toBe(1);
  expect(damaged.out).toBe('backup b1 is DAMAGED: 65536 bytes of its disk\n  65536 bytes at 131072\n');
  expect(damaged.err).toMatch(/The backup is damaged\nb0: at 131072, differs\ncode: backup-damaged\n$/);
  const json = await tidemark(answer, 'backup', 'verify', 'b1', '--json');
  expect([json.exit, JSON.parse(json.out).run.result.result]).toEqual([1, 'damaged']);
});

test('damage that newer backups cover is told as such, and a sound backup passes', async () => {
  const below = { result: 'damaged', damagedBytes: 0, ranges: [], truncated: false, detail: 'b0: differs' };
  const covered = await tidemark(verified(below), 'backup', 'verify', 'b1');
  expect([covered.exit, covered.out]).toEqual([1, 'backup b1 is DAMAGED: none of the bytes of its disk\n']);
  const sound = { result: 'sound', damagedBytes: 0, ranges: [], truncated: false, detail: null };
  const passed = await tidemark(verified(sound), 'backup', 'verify', 'b1');
  expect([passed.exit, passed.out]).toEqual([0, 'backup b1 is sound\n']);
});

test('a run that stands still is listed as paused', async () => {
  const items = [{ ...RUN, kind: 'backup', state: 'running', paused: true, result: null }];
  const listed = await tidemark({ items, nextCursor: null }, 'run', 'list');
  expect(listed.out).toMatch(/^r1 +backup +paused /m);
});
