// Goal: a service is ready when it says so, is kept running until it is stopped, and is found again when its
// starter was killed. Method: small programs as services, in temporary folders.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { isAlive, waitForEnd } from '../process/proc.mjs';
import { ChildRecord, HOME_VARIABLE } from './children.ts';
import { Home } from './home.ts';
import { registerStorageNode } from './registration.ts';
import { Service } from './service.ts';

const LISTENING = `console.log(JSON.stringify({ msg: 'listening' }));`;
let folder: string;
let services: Service[];
let notices: string[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tidemark-stack-'));
  services = [];
  notices = [];
});

afterEach(async () => {
  await Promise.all(services.map(service => service.stop(0)));
  rmSync(folder, { recursive: true });
});

function service(code: string): Service {
  const program = join(folder, 'program.ts');
  writeFileSync(program, code);
  const made = new Service({
    name: 'probe',
    program,
    environment: process.env,
    logPath: join(folder, 'probe.log'),
    restartDelayMaxMs: 10_000,
    onStarted: () => notices.push('started'),
    onEnded: (_name, reason) => notices.push(reason ?? 'stopped'),
  });
  services.push(made);
  return made;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await delay(10);
}

test('it is ready when it has said so in this start, not in an earlier one', async () => {
  writeFileSync(join(folder, 'probe.log'), '{"msg":"listening"}\n');
  const slow = service(`setTimeout(() => { ${LISTENING} }, 400); setInterval(() => {}, 1000);`);
  const began = performance.now();
  await slow.start();
  expect(performance.now() - began).toBeGreaterThan(400);
  await slow.stop(5_000);
  expect(notices).toEqual(['started', 'stopped']);
});

test('one that ends before it is ready is reported with the end of its log and not tried again', async () => {
  const broken = service(`console.error('no disk'); process.exit(3);`);
  await expect(broken.start()).rejects.toThrow(/probe ended before it was ready[\s\S]*no disk/);
  await delay(600);
  expect(notices).toEqual(['started', 'stopped']);
});

test('one that ends unasked is started again', async () => {
  const steady = service(`${LISTENING} setInterval(() => {}, 1000);`);
  await steady.start();
  const first = steady.pid!;
  process.kill(first, 'SIGKILL');
  await until(() => notices.length === 3);
  expect(notices).toEqual(['started', 'SIGKILL', 'started']);
  expect(steady.pid).not.toBe(first);
});

test('one that ignores the request to end is killed when the time is over', async () => {
  const stubborn = service(`process.on('SIGTERM', () => {}); ${LISTENING} setInterval(() => {}, 1000);`);
  await stubborn.start();
  const pid = stubborn.pid!;
  await stubborn.stop(200);
  expect(isAlive(pid)).toBe(false);
});

test('children of a killed stack are stopped, other processes with a recorded id are not', async () => {
  const home = join(folder, 'home');
  const idle = ['-e', 'setInterval(() => {}, 1000)'];
  const ours = spawn(process.execPath, idle, { env: { ...process.env, [HOME_VARIABLE]: home } });
  const foreign = spawn(process.execPath, idle);
  try {
    const killed = new ChildRecord(join(folder, 'children.json'), home);
    killed.add('alpha', ours.pid!);
    killed.add('beta', foreign.pid!);
    const next = new ChildRecord(join(folder, 'children.json'), home);
    expect(await next.stopOrphans()).toEqual(['alpha']);
    expect(isAlive(ours.pid!)).toBe(false);
    expect(isAlive(foreign.pid!)).toBe(true);
    expect(JSON.parse(readFileSync(join(folder, 'children.json'), 'utf8'))).toEqual({});
  } finally {
    ours.kill('SIGKILL');
    foreign.kill('SIGKILL');
    await waitForEnd(foreign.pid!, 5_000);
  }
});

test('ports and the password stay the same; a remembered port that is taken is refused by name', async () => {
  const first = new Home(join(folder, 'home'));
  const port = await first.port('api', null);
  const second = new Home(join(folder, 'home'));
  expect(second.databasePassword).toBe(first.databasePassword);
  expect(await second.port('api', 1)).toBe(port);

  const blocker = createServer().listen(port, '127.0.0.1');
  await once(blocker, 'listening');
  try {
    await expect(second.port('api', null)).rejects.toThrow(`port ${port}, which this stack uses for api`);
    await expect(second.port('api', null)).rejects.toThrow('remove "api" from');
    const known = second.port('api', null, { isKnownElsewhere: true });
    await expect(known).rejects.toThrow(/stop that program; the catalog and guests know it by this port$/);
    const other = new Home(join(folder, 'other'));
    expect(await other.port('api', port)).not.toBe(port);
  } finally {
    blocker.close();
  }
});

test('a storage node that is known at another address is not taken for registered', async () => {
  const server = createHttpServer((_request, response) => {
    response.end(JSON.stringify({ name: 'alpha', controlAddress: '127.0.0.1:7411' }));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const register = (port: number) =>
    registerStorageNode(
      url,
      { name: 'alpha', controlAddress: `127.0.0.1:${port}` },
      AbortSignal.timeout(5_000),
    );
  try {
    await register(7411);
    await expect(register(7412)).rejects.toThrow(
      'alpha is registered at 127.0.0.1:7411 and now listens at 127.0.0.1:7412',
    );
  } finally {
    server.close();
  }
});

test('a damaged memory is an error that says what to do', () => {
  const home = new Home(join(folder, 'home'));
  writeFileSync(home.path('stack.json'), '{"ports":');
  expect(() => new Home(home.folder)).toThrow(/is damaged: put it right, or choose another folder/);
});
