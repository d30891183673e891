// Goal: at most one live process has the lock, and a dead one never keeps it. Method: real files, real
// processes racing for them.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { liveHolder, tryLock } from './lock-file.mjs';

let folder: string;
let path: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tidemark-lock-'));
  path = join(folder, 'lock');
});

afterEach(() => rmSync(folder, { recursive: true }));

test('a second taker learns who has it; after release it is free and the folder is empty', () => {
  const lock = tryLock(path);
  if (!('release' in lock)) throw new Error('a new lock must be free');
  expect(tryLock(path)).toEqual({ holder: process.pid });
  lock.release();
  expect(liveHolder(path)).toBeNull();
  expect(readdirSync(folder)).toEqual([]);
});

test.each([
  ['of a process that ended', JSON.stringify({ pid: 2 ** 22 + 1, started: '1' })],
  ['whose process id was used again', JSON.stringify({ pid: process.pid, started: '1' })],
  ['that is not ours', 'hello'],
])('a lock file %s is taken over', (_name, content) => {
  writeFileSync(path, content);
  expect(liveHolder(path)).toBeNull();
  expect(tryLock(path)).toHaveProperty('release');
  expect(liveHolder(path)).toBe(process.pid);
});

test('of four processes that find a stale lock at once, one gets it', async () => {
  writeFileSync(path, JSON.stringify({ pid: 2 ** 22 + 1, started: '1' }));
  const url = new URL('./lock-file.mjs', import.meta.url).href;
  const script = `const { tryLock } = await import('${url}');
    const result = tryLock('${path}');
    console.log('release' in result ? 'mine' : 'taken');
    process.stdin.resume();`;
  const takers = Array.from({ length: 4 }, () =>
    spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] }),
  );
  const answers = await Promise.all(
    takers.map(async taker => String((await once(taker.stdout, 'data'))[0]).trim()),
  );
  for (const taker of takers) taker.stdin.end();
  await Promise.all(takers.map(taker => once(taker, 'close')));
  expect(answers.sort()).toEqual(['mine', 'taken', 'taken', 'taken']);
});
