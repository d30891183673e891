// Goal: a storage node can be emptied, and one that is lost be given up, whoever dies meanwhile: each volume has one
// owner at every end, which serves every byte; asked for again, the rest is done; nothing half-made stays. Method: the
// real services, armed with kill points of several of them at a time.
import { randomBytes } from 'node:crypto';
import { access, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { STOP_STORAGE_NODES_MS as STOP_MS } from './limits.ts';
import { type Answer, Operator } from './testing/operator.ts';

const MiB = 1024 * 1024;
const VOLUMES = ['first', 'second'];
const PATIENCE = { timeout: 120_000, interval: 100 };
/** Slow enough to be in the middle of a copy of 8 MiB until somebody ends it. */
const SLOW = 64 * 1024;

const contents = new Map<string, Buffer>();
let points: string;
let operator: Operator;

beforeAll(async () => {
  points = await mkdtemp(join(tmpdir(), 'tidemark-points-'));
  const environment = {
    TIDEMARK_KILL_POINTS: points,
    // What a killed worker had is taken over sooner.
    TIDEMARK_WORKER_LEASE_MS: '3000',
    TIDEMARK_WORKER_RETRY_MAX_MS: '2000',
  };
  operator = await Operator.open({}, { nodes: ['alpha', 'beta', 'gamma'], stack: { environment } });
  for (const name of ['alpha', 'gamma']) {
    await operator.tidemark('storage-node', 'label', name, `place=${name}`);
  }
  for (const name of VOLUMES) {
    await operator.createVolume(name, '8MiB');
    contents.set(name, randomBytes(8 * MiB));
    await operator.write(name, 0, contents.get(name)!);
    await operator.backUp(name, 'mon', 'full');
  }
}, 300_000);
afterAll(async () => {
  await operator?.close();
  await rm(points, { recursive: true, force: true });
});

const isThere = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );
const arm = (service: string, point: string) =>
  writeFile(join(points, `${service}.armed`), point === '' ? '' : `${point} 1`);
const kills = async (service: string): Promise<number> => {
  const passed = await readFile(join(points, `${service}.passed`), 'utf8').catch(() => '');
  return passed.split('\n').filter(line => line.startsWith('killed ')).length;
};
const killsOf = async (services: readonly string[]): Promise<number> =>
  (await Promise.all(services.map(kills))).reduce((sum, one) => sum + one, 0);

/** Of the run and those that it started; nobody has anything to put away any more. */
async function ended(runId: string): Promise<Answer> {
  const isOver = async () => {
    const { items } = await operator.get('runs?limit=100');
    const isEnded = ({ state, cleanupPending }: Answer) =>
      ['succeeded', 'failed', 'cancelled'].includes(state) && !cleanupPending;
    return items.every((run: Answer) => isEnded(run) || run.kind === 'reconcile');
  };
  await expect.poll(isOver, PATIENCE).toBe(true);
  return operator.get(`runs/${runId}`);
}

/** Every volume is where its row says, there alone, and whole. */
async function oneOwnerEach(among: readonly string[]): Promise<void> {
  for (const name of VOLUMES) {
    const { id, state, storageNode } = await operator.get(`volumes/${name}`);
    expect([name, state]).toEqual([name, 'ready']);
    expect((await operator.contents(name)).equals(contents.get(name)!), name).toBe(true);
    for (const node of among) {
      const folder = join(operator.stateDir(node), 'volumes', id);
      expect([name, node, await isThere(folder)]).toEqual([name, node, node === storageNode]);
    }
  }
}

/** By service; `source` and `target` of the drain. */
type Points = Partial<Record<'worker' | 'source' | 'target', string>>;

const DRAINS: Points[] = [
  {
    worker: 'move-volume seal done, not recorded',
    source: 'call DeleteVolume remove-source begins',
    target: 'call AcceptArrival accept done',
  },
  {
    worker: 'move-volume accept recorded',
    source: 'write volumes/*/volume.json renamed',
    target: 'call PrepareArrival prepare done',
  },
];

test.each(DRAINS)('a drain in which $worker, $source and $target kill', { timeout: 400_000 }, async armed => {
  const source = (await operator.get('volumes/first')).storageNode;
  const target = source === 'alpha' ? 'gamma' : 'alpha';
  for (const name of [source, target]) await operator.tidemark('storage-node', 'uncordon', name);
  const services = { worker: 'worker', source, target };
  const before = await killsOf(Object.values(services));
  for (const [role, point] of Object.entries(armed)) await arm(services[role as keyof Points], point);
  const drain = async () => {
    const { run } = await operator.post(
      `storage-nodes/${source}/drain`,
      { selector: `place=${target}` },
      'accepted',
    );
    return run.id;
  };
  const first = await drain();
  await operator.kill('api');
  await expect.poll(() => killsOf(Object.values(services)), PATIENCE).toBeGreaterThan(before);
  let result = (await ended(first)).result;
  for (const name of Object.values(services)) await arm(name, '');
  await operator.nodesAreOnline();
  await operator.tidemark('reconcile');
  await oneOwnerEach([source, target]);
  // What stayed has its reason, and goes when it is asked for again.
  for (let again = 0; again < 2 && result.state !== 'complete'; again++) {
    for (const { reason } of result.stays) expect(reason).not.toBe('');
    result = (await ended(await drain())).result;
  }
  expect(result.stays).toEqual([]);
  await operator.tidemark('reconcile');
  await oneOwnerEach([source, target]);
  expect((await operator.get('volumes/first')).storageNode).toBe(target);
  expect((await operator.get('differences?state=open')).items).toEqual([]);
});

test('a storage node that is lost in the middle of its drain, and a recovery in which others die', {
  timeout: 400_000,
}, async () => {
  const source = (await operator.get('volumes/first')).storageNode;
  const target = source === 'alpha' ? 'gamma' : 'alpha';
  const selector = `place=${target}`;
  for (const name of [source, target]) await operator.tidemark('storage-node', 'uncordon', name);
  await operator.post(`storage-nodes/${source}/drain`, { selector, speedBytesPerSecond: SLOW }, 'accepted');
  const ids = await Promise.all(VOLUMES.map(async name => (await operator.get(`volumes/${name}`)).id));
  const arriving = () =>
    Promise.all(ids.map(id => isThere(join(operator.stateDir(target), 'volumes', id, 'disk.raw'))));
  await expect.poll(arriving, PATIENCE).toEqual([true, true]);
  await operator.stack.services.get(source)!.stop(STOP_MS);
  const state = async () => (await operator.get(`storage-nodes/${source}`)).state;
  await expect.poll(state, PATIENCE).toBe('unreachable');

  await arm('worker', 'restore start done, not recorded');
  await arm(target, 'call StartRestore start done');
  const before = await killsOf(['worker', target]);
  const recover = async () => {
    const { run } = await operator.post(`storage-nodes/${source}/recover`, { selector }, 'accepted');
    return run.id;
  };
  // Twice at a time: each volume is brought back once.
  const [first] = await Promise.all([recover(), recover()]);
  await operator.kill('api');
  await expect.poll(() => killsOf(['worker', target]), PATIENCE).toBeGreaterThan(before);
  await ended(first);
  for (const name of ['worker', target]) await arm(name, '');
  const isBack = async () => {
    const states = VOLUMES.map(async name => (await operator.get(`volumes/${name}`)).state);
    return (await Promise.all(states)).every(one => one === 'ready');
  };
  for (let again = 0; again < 2 && !(await isBack()); again++) {
    const { items } = await operator.get('storage-nodes');
    expect(items.find(({ name }: Answer) => name === source).state).toBe('lost');
    await ended(await recover());
  }
  await operator.tidemark('reconcile');
  await oneOwnerEach([target]);
  // No restore found in its way what a move had brought: those were undone before.
  const { items: restores } = await operator.get('runs?kind=restore&limit=100');
  expect(restores.map(({ error }: Answer) => error?.code)).not.toContain('volume-name-taken');
  const owners = VOLUMES.map(async name => (await operator.get(`volumes/${name}`)).storageNode);
  expect(await Promise.all(owners)).toEqual([target, target]);
  const { items } = await operator.get('differences?state=open');
  expect(items.filter(({ kind }: Answer) => !kind.startsWith('repository'))).toEqual([]);
});
