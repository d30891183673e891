// Goal: the whole system starts, keeps running, stops cleanly, and comes up again after any kill. Method: the
// real services in a temporary home, driven through the REST API.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { isAlive } from '../process/proc.mjs';
import { rootFolder } from '../setup/find-node.mjs';
import { Stack } from './stack.ts';

let home: string;
let notices: string[];
let stacks: Stack[];

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'tidemark-home-'));
  notices = [];
  stacks = [];
});

afterEach(async () => {
  await Promise.all(stacks.map(stack => stack.stop()));
  rmSync(home, { recursive: true });
});

function makeStack(): Stack {
  const stack = new Stack({ home, ports: 'free', onNotice: line => notices.push(line) });
  stacks.push(stack);
  return stack;
}

interface Named {
  name: string;
  state: string;
}

/** By name: storage nodes are registered all at once. */
async function list(stack: Stack, path: string): Promise<Named[]> {
  const response = await fetch(`${stack.url}/v1/${path}`);
  const { items } = (await response.json()) as { items: Named[] };
  return items.sort((a, b) => a.name.localeCompare(b.name));
}

async function until(condition: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await condition())) await delay(50);
}

/** `npm start` as its own process. */
function startMain(): { child: ChildProcess; ended: Promise<unknown>; text: () => string } {
  const program = join(rootFolder, 'scripts', 'stack', 'main.ts');
  const child = spawn(process.execPath, [program], {
    env: { ...process.env, TIDEMARK_HOME: home },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  return { child, ended: once(child, 'close'), text: () => output };
}

async function running({ child, text }: ReturnType<typeof startMain>): Promise<void> {
  await until(() => text().includes('Tidemark is running') || child.exitCode !== null);
  expect(child.exitCode, text()).toBeNull();
}

test('it starts, refuses a second one, restarts what is killed, and finds its data again', async () => {
  const first = makeStack();
  await first.start();
  expect(await list(first, 'storage-nodes')).toMatchObject([
    { name: 'alpha', state: 'online' },
    { name: 'beta', state: 'online' },
  ]);
  const created = await fetch(`${first.url}/v1/volumes?wait=done`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'disk1', storageNode: 'alpha', sizeBytes: 1024 * 1024 }),
  });
  expect(created.ok, await created.text()).toBe(true);
  await expect(new Stack({ home }).start()).rejects.toThrow(
    `already runs in ${home} (process ${process.pid})`,
  );

  const alpha = first.services.get('alpha')!;
  const pid = alpha.pid!;
  process.kill(pid, 'SIGKILL');
  await until(() => alpha.pid !== null && alpha.pid !== pid);
  expect(notices).toEqual(['alpha ended unasked (SIGKILL); starting it again']);

  const postgres = first.postgresPid!;
  process.kill(postgres, 'SIGKILL');
  await until(async () => first.postgresPid !== postgres && (await fetch(`${first.url}/readyz`)).ok);
  expect(notices[1]).toBe('postgres ended unasked (SIGKILL); starting it again');
  expect(await list(first, 'volumes')).toMatchObject([{ name: 'disk1', state: 'ready' }]);

  const pids = [...first.services.values()].map(service => service.pid!);
  const began = performance.now();
  await first.stop();
  expect(performance.now() - began).toBeLessThan(15_000);
  expect(pids.filter(isAlive)).toEqual([]);

  const second = makeStack();
  await second.start();
  expect(second.url).toBe(first.url);
  expect(await list(second, 'volumes')).toMatchObject([{ name: 'disk1', state: 'ready' }]);
});

test('it stops cleanly while PostgreSQL is being started again', async () => {
  const stack = makeStack();
  await stack.start();
  const unhandled: unknown[] = [];
  const note = (reason: unknown) => unhandled.push(reason);
  process.on('unhandledRejection', note);
  process.kill(stack.postgresPid!, 'SIGKILL');
  await until(() => notices.length > 0);
  await stack.stop();
  process.off('unhandledRejection', note);
  expect(unhandled).toEqual([]);
});

test('a stack that was killed is recovered by the next start', async () => {
  const main = startMain();
  await running(main);
  main.child.kill('SIGKILL');
  await main.ended;

  const next = makeStack();
  await next.start();
  expect(notices).toEqual([expect.stringMatching(/^stopped what a killed run left: .*postgres$/)]);
  expect(await list(next, 'storage-nodes')).toHaveLength(2);
});

test.each(['starts', 'runs'])(
  'Ctrl-C, sent twice, while it %s: everything ends, exit code 0',
  async moment => {
    const main = startMain();
    await (moment === 'runs' ? running(main) : until(() => existsSync(join(home, 'stack.lock'))));
    const began = performance.now();
    main.child.kill('SIGINT');
    main.child.kill('SIGINT');
    expect(await main.ended, main.text()).toEqual([0, null]);
    expect(performance.now() - began).toBeLessThan(15_000);
    expect(main.text()).toMatch(/Stopping …\nStopped\.\n$/);
  },
);
