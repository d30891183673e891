// Goal: a storage node joins a fleet by itself with a token that is worth nothing afterwards, keeps its guests whatever
// the API says, and is found again when its address has changed. Method: the real services in a temporary home; a
// further storage node as a process of the test.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { Operator } from './testing/operator.ts';
import { type Spawned, spawnStorageNode } from './testing/spawned-storage-node.ts';

let operator: Operator;
const state = mkdtempSync(join(tmpdir(), 'tidemark-joining-'));
const running: Spawned[] = [];

beforeAll(async () => {
  operator = await Operator.open({}, { nodes: ['alpha'] });
}, 240_000);
afterEach(async () => {
  for (const one of running.splice(0)) await one.stop();
});
afterAll(async () => {
  await operator?.close();
  rmSync(state, { recursive: true, force: true });
});

function start(name: string, token: string, labels = ''): Spawned {
  const fleet = {
    TIDEMARK_JOIN_URL: operator.stack.url,
    TIDEMARK_JOIN_TOKEN: token,
    TIDEMARK_NODE_LABELS: labels,
  };
  const secret = { TIDEMARK_FLEET_SECRET: operator.stack.fleetSecret };
  const spawned = spawnStorageNode({ name, stateDir: join(state, name), settings: { ...fleet, ...secret } });
  running.push(spawned);
  return spawned;
}

const newToken = async (...more: string[]) =>
  (await operator.json('storage-node', 'join-token', 'create', ...more)).secret as string;
const nodes = async () => (await operator.get('storage-nodes')).items;
const find = async (name: string) => (await nodes()).find((one: { name: string }) => one.name === name);
const isOnline = (name: string) =>
  expect.poll(async () => (await find(name))?.state, { timeout: 60_000 }).toBe('online');

test('a storage node joins with its labels, and is found at its new address', {
  timeout: 300_000,
}, async () => {
  const token = await newToken('--name', 'gamma');
  const first = start('gamma', token, 'zone=a,disk=nvme');
  await isOnline('gamma');
  const before = await find('gamma');
  expect(before.labels).toEqual({ zone: 'a', disk: 'nvme' });
  await expect.poll(() => first.output, { timeout: 60_000 }).toContain("joined as 'gamma'");
  expect(first.output).not.toContain(token);
  await operator.tidemark('volume', 'create', 'v', '--storage-node', 'gamma', '--size', '1MiB');
  await operator.write('v', 0, Buffer.alloc(4096, 7));

  await first.stop();
  start('gamma', await newToken());
  await expect
    .poll(async () => (await find('gamma')).controlAddress, { timeout: 60_000 })
    .not.toBe(before.controlAddress);
  await isOnline('gamma');
  expect((await find('gamma')).id).toBe(before.id);
  await operator.tidemark('reconcile');
  expect((await operator.contents('v')).subarray(0, 4096).equals(Buffer.alloc(4096, 7))).toBe(true);
});

test('a token is worth nothing once it is used, has expired, or is for another', {
  timeout: 300_000,
}, async () => {
  const used = await newToken();
  start('delta', used);
  await isOnline('delta');
  const late = start('epsilon', used);
  await expect.poll(() => late.output, { timeout: 60_000 }).toContain('was used by another storage node');
  const named = start('zeta', await newToken('--name', 'eta'));
  await expect.poll(() => named.output, { timeout: 60_000 }).toContain("is for a storage node named 'eta'");
  const unknown = start('theta', 'tmj_made-up');
  await expect.poll(() => unknown.output, { timeout: 60_000 }).toContain('there is no such join token');
  expect(unknown.output).not.toContain('made-up');
  expect((await nodes()).map(({ name }: { name: string }) => name)).toEqual(['alpha', 'gamma', 'delta']);
});
