// Goal: an operator empties a storage node in one command, and gives up another that is lost for good in one command:
// its volumes come back under their names from the newest backups, what could not is named, and nothing of a storage
// node that comes back after that is served twice. Method: the real services in a temporary home, the real command.
import { randomBytes } from 'node:crypto';
import { NbdClient } from '@tidemark/nbd';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { STOP_STORAGE_NODES_MS as STOP_MS } from './limits.ts';
import { type Answer, Operator } from './testing/operator.ts';
import { spawnStorageNode } from './testing/spawned-storage-node.ts';

const MiB = 1024 * 1024;

let operator: Operator;
let contents: Buffer;
let volume: Answer;

beforeAll(async () => {
  const volumes = { disk: '8MiB', bare: '8MiB', snapped: '8MiB' };
  operator = await Operator.open(volumes, { nodes: ['alpha', 'beta', 'gamma'] });
  await operator.tidemark('storage-node', 'label', 'gamma', 'zone=c');
  await operator.tidemark('volume', 'label', 'disk', 'app=shop');
  await operator.write('disk', 0, randomBytes(3 * MiB));
  await operator.backUp('disk', 'mon', 'full');
  await operator.write('disk', 5 * MiB, randomBytes(MiB));
  await operator.tidemark('snapshot', 'create', 'snapped', 'before-upgrade');
  volume = await operator.get('volumes/disk');
}, 300_000);
afterAll(() => operator?.close());

const node = (name: string): Promise<Answer> => operator.get(`storage-nodes/${name}`);

test('a cordoned storage node takes nothing new', { timeout: 120_000 }, async () => {
  await operator.tidemark('storage-node', 'cordon', 'gamma');
  expect(await operator.tidemark('storage-node', 'list')).toMatch(/^gamma +online, cordoned/m);
  const create = ['create', 'new', '--storage-node', 'gamma', '--size', '1MiB'];
  expect((await operator.refusal('volume', ...create)).stderr).toContain("'gamma' is cordoned");
  expect((await operator.refusal('volume', 'move', 'disk', '--to', 'gamma')).stderr).toContain('cordoned');
  await operator.tidemark('storage-node', 'uncordon', 'gamma');
  expect((await node('gamma')).cordonedAt).toBeNull();
});

test('a drain moves what can move, and names what stays', { timeout: 300_000 }, async () => {
  const out = await operator.tidemark('storage-node', 'drain', 'alpha', '--to', 'zone=c');
  expect(out).toContain('moved: disk to gamma');
  expect(out).toContain('moved: bare to gamma');
  expect(out).toMatch(/stays: snapped: .*'before-upgrade'/);
  expect((await node('alpha')).cordonedAt).not.toBeNull();
  expect((await operator.get('volumes/disk')).storageNode).toBe('gamma');
  const back = await operator.json('storage-node', 'drain', 'beta');
  expect(back.run.result).toMatchObject({ state: 'complete', moved: [], repositories: ['vault'] });
  await operator.tidemark('storage-node', 'uncordon', 'beta');
  await operator.backUp('disk', 'tue', 'incremental');
  contents = await operator.contents('disk');
});

test('one that is lost is given up, and its volumes come back', { timeout: 300_000 }, async () => {
  expect((await operator.refusal('storage-node', 'recover', 'gamma')).stderr).toContain('it is not lost');
  const before = await node('gamma');
  await operator.stack.services.get('gamma')!.stop(STOP_MS);
  await expect.poll(async () => (await node('gamma')).state, { timeout: 60_000 }).toBe('unreachable');
  const answer = await operator.json('storage-node', 'recover', 'gamma');
  expect(answer.storageNode.state).toBe('lost');
  const { volumes, state } = answer.run.result;
  expect(state).toBe('incomplete');
  const [disk, bare] = ['disk', 'bare'].map(name => volumes.find((one: Answer) => one.name === name));
  expect(disk).toMatchObject({
    state: 'restored',
    storageNode: 'beta',
    repository: 'vault',
    volumeId: volume.id,
  });
  expect(disk.ageMs).toBeGreaterThan(0);
  expect(bare).toMatchObject({ state: 'lost', backupId: null, lost: 'all of it: it has no backup' });

  const restored = await operator.get('volumes/disk');
  expect(restored).toMatchObject({
    id: volume.id,
    state: 'ready',
    storageNode: 'beta',
    labels: { app: 'shop' },
  });
  expect((await operator.contents('disk')).equals(contents)).toBe(true);
  const { backup } = await operator.backUp('disk', 'wed', 'incremental');
  expect(backup).toMatchObject({ kind: 'incremental', sentBytes: 0 });
  expect((await operator.get('volumes/bare')).state).toBe('lost');
  const refused = await operator.refusal('checkpoint', 'create', 'bare', 'x');
  expect(refused.stderr).toContain("is lost with storage node 'gamma'");

  // It comes back: it is refused, nobody asks it, and what it serves is not taken for the volume.
  const token = (await operator.json('storage-node', 'join-token', 'create')).secret;
  const settings = {
    TIDEMARK_CONTROL_LISTEN: before.controlAddress,
    TIDEMARK_FLEET_SECRET: operator.stack.fleetSecret,
    TIDEMARK_JOIN_URL: operator.stack.url,
    TIDEMARK_JOIN_TOKEN: token,
  };
  const returned = spawnStorageNode({ name: 'gamma', stateDir: operator.stateDir('gamma'), settings });
  onTestFinished(() => returned.stop());
  await expect.poll(() => returned.output, { timeout: 60_000 }).toContain('was given up as lost');
  await operator.tidemark('reconcile');
  expect((await node('gamma')).state).toBe('lost');
  expect((await operator.get('volumes/disk')).storageNode).toBe('beta');
  // It learns that another one has the volume, and serves it to nobody; what nobody else has it goes on serving.
  const nbd = /"nbd":"([^"]+)"/.exec(returned.output)![1];
  const serves = (name: string) =>
    NbdClient.connect({ uri: `nbd://${nbd}/${name}` }).then(
      guest => guest.disconnect().then(() => true),
      () => false,
    );
  await expect.poll(() => serves('disk'), { timeout: 60_000 }).toBe(false);
  expect(await serves('bare')).toBe(true);
  const again = await operator.json('storage-node', 'recover', 'gamma', '--instant');
  expect(again.run.result.volumes.map(({ name }: Answer) => name)).toEqual(['bare']);
  // Where there is nothing to come back from, its name is free again.
  expect(await operator.tidemark('volume', 'delete', 'bare')).toBe('deleted volume bare\n');
});
