// Goal: a hook is a program of the allow list and nothing else, it ends within its time with all that it started, and
// what went wrong can be read. Method: real programs in a temporary folder.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { HOOK_OUTPUT_BYTES_MAX } from '../limits.ts';
import { temporaryFolder } from '../testing/temporary-folder.ts';
import { Hooks } from './hooks.ts';

const REQUEST = {
  hook: 'db',
  phase: 'freeze',
  groupName: 'nightly',
  volumeNames: ['a', 'b'],
  timeoutMs: 60_000,
};

async function hookOf(script: string) {
  const folder = await temporaryFolder();
  const program = join(folder, 'hook');
  await writeFile(program, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return { folder, hooks: new Hooks({ programs: new Map([['db', program]]) }) };
}

test('it is told phase, group and volumes, and nothing of this process', async () => {
  const { hooks } = await hookOf(
    'echo "$1 $2 $# $TIDEMARK_HOOK_PHASE $TIDEMARK_HOOK_GROUP $TIDEMARK_HOOK_VOLUMES"; env | grep -c ^HOME= >&2; true',
  );
  const { output } = await hooks.run({ ...REQUEST, groupName: 'a b; touch /x' });
  expect(output).toContain('freeze a b; touch /x 2 freeze a b; touch /x a b');
  expect(output.split('\n')).toContain('0');
});

test.each([
  ['exit 3', /'db' \(freeze\) ended with exit status 3.*It said: no room/],
  ['kill -TERM $$', /was ended by SIGTERM/],
])('%s is told with hook and status', async (script, expected) => {
  const { hooks } = await hookOf(`echo no room; ${script}`);
  const run = hooks.run(REQUEST);
  await expect(run).rejects.toMatchObject({ code: 'hook-failed' });
  await expect(run).rejects.toThrow(expected);
  await expect(hooks.run({ ...REQUEST, phase: 'thaw' })).rejects.toThrow(/\(thaw\)/);
});

test('one that takes too long is killed with all that it has started', async () => {
  const { folder, hooks } = await hookOf('sleep 600 & echo $! > "$(dirname "$0")/pid"; wait');
  await expect(hooks.run({ ...REQUEST, timeoutMs: 2_000 })).rejects.toThrow(/took longer than 2000 ms/);
  const pid = Number(await readFile(join(folder, 'pid'), 'utf8'));
  const isGone = async () => {
    const state = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '0 (x) Z');
    return /\) [ZX]/.test(state);
  };
  await vi.waitFor(async () => expect(await isGone()).toBe(true), { timeout: 20_000, interval: 50 });
});

test('the end of a long output is kept', async () => {
  const { hooks } = await hookOf('i=0; while [ $i -lt 4000 ]; do echo "line $i"; i=$((i+1)); done');
  const { output } = await hooks.run(REQUEST);
  expect(output.length).toBeLessThanOrEqual(HOOK_OUTPUT_BYTES_MAX);
  expect(output.endsWith('line 3999')).toBe(true);
});

test('what is no hook is refused', async () => {
  const { hooks } = await hookOf('true');
  await expect(hooks.run({ ...REQUEST, hook: '/bin/sh' })).rejects.toMatchObject({ code: 'hook-not-found' });
  await expect(hooks.run({ ...REQUEST, phase: 'rm' })).rejects.toMatchObject({ code: 'invalid-request' });
  await expect(hooks.run({ ...REQUEST, timeoutMs: 1e9 })).rejects.toMatchObject({ code: 'invalid-request' });
  const missing = new Hooks({ programs: new Map([['db', '/nowhere/at/all']]) });
  await expect(missing.run(REQUEST)).rejects.toThrow(/could not be started/);
});
