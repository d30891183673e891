// Goal: the program as supervisors see it: says when it listens, stops in order, explains what is wrong.
// Method: the real program as a child process.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { connectStorageNode } from '@tidemark/proto';
import { expect, onTestFinished, test } from 'vitest';
import { temporaryFolder } from '../src/testing/temporary-folder.ts';

const MAIN = new URL('../src/main.ts', import.meta.url).pathname;

type LogLine = Record<string, unknown> & { msg: string };

function launch(variables: Record<string, string>): ChildProcess {
  const child = spawn(process.execPath, [MAIN], {
    env: { PATH: '/usr/bin:/bin', ...variables },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  return child;
}

async function listening(child: ChildProcess): Promise<LogLine> {
  for await (const text of createInterface({ input: child.stdout! })) {
    const line = JSON.parse(text) as LogLine;
    if (line.msg === 'listening') return line;
  }
  throw new Error('the storage node ended before it listened');
}

async function settings(change: Record<string, string> = {}): Promise<Record<string, string>> {
  return {
    TIDEMARK_NODE_NAME: 'alpha',
    TIDEMARK_STATE_DIR: await temporaryFolder(),
    TIDEMARK_CONTROL_LISTEN: '127.0.0.1:0',
    TIDEMARK_NBD_LISTEN: '127.0.0.1:0',
    TIDEMARK_HEALTH_LISTEN: '127.0.0.1:0',
    ...change,
  };
}

test.each(['SIGTERM', 'SIGINT'] as const)('listens, answers, and ends well on %s', async signal => {
  const variables = await settings();
  const child = launch(variables);
  const line = await listening(child);
  const clients = connectStorageNode({ name: 'alpha', address: String(line.control) });
  onTestFinished(() => clients.close());
  const status = await clients.storageNode.getStatus({});
  expect(status).toMatchObject({ name: 'alpha', instanceId: line.instanceId, nbdAddress: line.nbd });
  expect((await fetch(`http://${line.health}/healthz`)).status).toBe(200);
  child.kill(signal);
  expect(await once(child, 'exit')).toEqual([0, null]);
  const again = await listening(launch(variables));
  expect(again.instanceId).toBe(line.instanceId);
});

test('a killed storage node starts again on its state directory', async () => {
  const variables = await settings();
  const child = launch(variables);
  const line = await listening(child);
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect((await listening(launch(variables))).instanceId).toBe(line.instanceId);
});

test.each([
  ['bad settings', { TIDEMARK_NODE_NAME: 'No Name' }, 2, /TIDEMARK_NODE_NAME/],
  ['a state directory that is a file', { TIDEMARK_STATE_DIR: MAIN }, 1, /main\.ts/],
])('%s: says what is wrong and ends with a failure', async (_what, change, code, message) => {
  const child = launch(await settings(change));
  let output = '';
  for (const stream of [child.stdout!, child.stderr!]) stream.on('data', chunk => (output += chunk));
  expect(await once(child, 'close')).toEqual([code, null]);
  expect(output).toMatch(message);
});

test('a second storage node on the same state directory is refused by name of the first', async () => {
  const variables = await settings();
  const first = launch(variables);
  await listening(first);
  const second = launch(variables);
  let output = '';
  second.stdout!.on('data', chunk => (output += chunk));
  expect(await once(second, 'close')).toEqual([1, null]);
  expect(output).toContain(`process id ${first.pid}`);
});
