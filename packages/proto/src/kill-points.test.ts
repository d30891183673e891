// Goal: a service dies at the point and the time that were asked for, and at no other. Method: real files; a death
// that is only counted, but for one in a process of its own.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { killPoints } from './kill-points.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tidemark-kill-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const passed = () => readFileSync(join(folder, 'beta.passed'), 'utf8').trimEnd().split('\n');

test('without the setting there is no hook', () => {
  expect(killPoints(undefined, 'beta')).toBeUndefined();
});

test('the point that is armed kills when it is passed for that time, once', () => {
  let deaths = 0;
  const pass = killPoints(folder, 'beta', () => {
    deaths += 1;
  })!;
  pass('a b');
  writeFileSync(join(folder, 'beta.armed'), 'c 1\na b 2\n');
  writeFileSync(join(folder, 'alpha.armed'), 'a 1\n');
  for (const name of ['a b', 'a', 'a b', 'a b']) pass(name);
  expect(deaths).toBe(1);
  expect(passed()).toEqual(['a b', 'a b', 'a', 'a b', 'killed a b', 'a b']);
});

test('the process ends by SIGKILL, and nothing after the point is done', () => {
  writeFileSync(join(folder, 'beta.armed'), 'here 1');
  const source = `import { killPoints } from '${import.meta.dirname}/kill-points.ts';
    const pass = killPoints('${folder}', 'beta');
    process.on('exit', () => pass('exit'));
    pass('here');
    pass('later');`;
  const { signal } = spawnSync(process.execPath, ['--input-type=module', '-e', source]);
  expect(signal).toBe('SIGKILL');
  expect(passed()).toEqual(['here', 'killed here']);
});
