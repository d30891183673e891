// Goal: an operator takes volumes of two storage nodes at one instant while a guest writes to both, backs that instant
// up, and restores it; whichever process is killed between any two steps, it is one instant or nothing. Method: the
// real services and the real command; a guest whose writes on one volume follow those on the other.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CausalWriter, newestNumber } from './testing/causal-writer.ts';
import { type Answer, Operator } from './testing/operator.ts';

const VOLUMES = ['first', 'second'];
/** CI machines are slow: a guest may have to wait that long there. */
const LIMIT = ['--fence-limit', '8000'];
const PATIENCE = { timeout: 120_000, interval: 250 };

let points: string;
let operator: Operator;

beforeAll(async () => {
  points = mkdtempSync(join(tmpdir(), 'tidemark-points-'));
  const environment = {
    TIDEMARK_KILL_POINTS: points,
    // What a killed worker had is taken over sooner.
    TIDEMARK_WORKER_LEASE_MS: '3000',
    TIDEMARK_WORKER_RETRY_MAX_MS: '2000',
  };
  operator = await Operator.open({}, { stack: { environment } });
  await operator.createVolume('first', '4MiB', 'alpha', '--label', 'app=shop');
  await operator.createVolume('second', '4MiB', 'beta', '--label', 'app=shop');
  await operator.createVolume('apart', '4MiB', 'beta', '--label', 'app=other');
}, 120_000);

afterAll(async () => {
  await operator?.close();
  rmSync(points, { recursive: true, force: true });
});

const startWriter = async () =>
  CausalWriter.start(await Promise.all(VOLUMES.map(name => operator.exportUri(name))));

/** Of the backups of a group, restored: what was written first is never behind what was written after it. */
async function expectOneInstant(group: Answer): Promise<void> {
  const numbers: Record<string, number> = {};
  for (const { volume, backupId } of group.members) {
    const name = `${volume}-${group.name}`;
    await operator.restored(backupId, name);
    numbers[volume] = newestNumber(await operator.contents(name));
  }
  const ahead = numbers.first! - numbers.second!;
  expect([0, 1], `first ${numbers.first}, second ${numbers.second}`).toContain(ahead);
}

/** Of what is not there while no group is. */
async function leftovers(): Promise<object> {
  const checkpoints = await Promise.all(
    VOLUMES.map(async name => (await operator.get(`volumes/${name}/checkpoints`)).items),
  );
  return {
    checkpoints: checkpoints.flat().map(({ name }: { name: string }) => name),
    backups: (await operator.get('backups?hidden=true')).items.length,
    differences: (await operator.get('differences?state=open')).items,
  };
}

test('a group of all volumes with a label is one instant, with its proof', async () => {
  const writer = await startWriter();
  let answer: Answer;
  try {
    await expect.poll(() => writer.next, PATIENCE).toBeGreaterThan(20);
    answer = await operator.json('group', 'create', 'monday', '--selector', 'app=shop', ...LIMIT);
  } finally {
    await writer.stop();
  }
  const { group } = answer;
  expect(group).toMatchObject({ name: 'monday', kind: 'checkpoint', state: 'ready', selector: 'app=shop' });
  expect(group.members.map(({ volume }: Answer) => volume)).toEqual(VOLUMES);
  expect(group.proof.nodes.map(({ held }: Answer) => held)).toEqual([true, true]);
  expect(group.proof.longestWaitMs).toBeLessThan(8000);
  const shown = await operator.tidemark('group', 'show', 'monday');
  expect(shown).toMatch(/^STATE +ready$/m);
  expect(shown).toMatch(/^alpha .* yes, /m);
  for (const name of VOLUMES) {
    const checkpoint = await operator.get(`volumes/${name}/checkpoints/monday`);
    expect(checkpoint.state).toBe('ready');
  }
  const { stderr } = await operator.refusal('group', 'create', 'monday', '--volume', 'apart');
  expect(stderr).toContain('group-name-taken');
}, 120_000);

test('group backups under writes restore to one instant, full and then incremental', async () => {
  const writer = await startWriter();
  const groups: Answer[] = [];
  try {
    for (const name of ['full', 'increment', 'last']) {
      const goal = writer.next + 30;
      await expect.poll(() => writer.next, PATIENCE).toBeGreaterThan(goal);
      const volumes = VOLUMES.flatMap(volume => ['--volume', volume]);
      const answer = await operator.json('group', 'create', name, ...volumes, '--backup', 'vault', ...LIMIT);
      expect(answer.group).toMatchObject({ state: 'ready', kind: 'backup' });
      groups.push(answer.group);
    }
  } finally {
    await writer.stop();
  }
  const kinds = groups.map(({ members }) =>
    Promise.all(
      members.map(async ({ backupId }: Answer) => (await operator.get(`backups/${backupId}`)).kind),
    ),
  );
  expect(await Promise.all(kinds)).toEqual([
    ['full', 'full'],
    ['incremental', 'incremental'],
    ['incremental', 'incremental'],
  ]);
  for (const group of groups) await expectOneInstant(group);
  expect(await operator.tidemark('group', 'delete', 'increment')).toContain('group increment is deleted');
  await expectOneInstant({ ...groups[2], name: 'after-deletion' });
}, 300_000);

describe('whoever is killed, it is one instant or nothing', () => {
  const RUN = 'create-group';
  const CASES: [service: string, point: string, state: 'ready' | 'failed'][] = [
    ['worker', `${RUN} prepare done, not recorded`, 'ready'],
    ['worker', `${RUN} prepare recorded`, 'ready'],
    ['worker', `${RUN} instant begun`, 'failed'],
    ['worker', `${RUN} instant done, not recorded`, 'failed'],
    ['worker', `${RUN} instant recorded`, 'ready'],
    ['worker', `${RUN} keep done, not recorded`, 'ready'],
    ['worker', `${RUN} start-backups recorded`, 'ready'],
    ['beta', 'call PrepareGroup prepare done', 'failed'],
    ['beta', 'call FenceGroup fence begins', 'failed'],
    ['beta', 'call FenceGroup fence done', 'failed'],
    ['beta', 'call CommitGroup commit begins', 'failed'],
    ['beta', 'call CommitGroup commit done', 'failed'],
    ['beta', 'call ReleaseGroup release begins', 'failed'],
    ['beta', 'call ReleaseGroup release done', 'failed'],
  ];

  test.each(CASES)(
    '%s at %s: %s',
    async (service, point, state) => {
      const before = await leftovers();
      const name = `killed-${CASES.findIndex(([, one]) => one === point)}`;
      writeFileSync(join(points, `${service}.armed`), `${point} 1`);
      const body = {
        name,
        volumes: VOLUMES,
        fenceLimitMs: 8000,
        ...(state === 'ready' && { backup: { repository: 'vault' } }),
      };
      const { run, group: made } = await operator.post('groups', body, 'accepted');
      await expect
        .poll(() => readFileSync(join(points, `${service}.passed`), 'utf8'), PATIENCE)
        .toContain(`killed ${point}`);
      const ended = async () => {
        const { state: now, cleanupPending } = await operator.get(`runs/${run.id}`);
        return ['succeeded', 'failed', 'cancelled'].includes(now) && !cleanupPending;
      };
      await expect.poll(ended, PATIENCE).toBe(true);
      const group = await operator.get(`groups/${made.id}`);
      expect([group.state, group.error === null]).toEqual([state, state === 'ready']);
      await operator.nodesAreOnline();
      if (state === 'ready') await expectEqualContents(group);
      else expect(await leftovers()).toEqual(before);
    },
    300_000,
  );

  /** Nobody writes: the backups hold what the volumes do. */
  async function expectEqualContents(group: Answer): Promise<void> {
    for (const { volume, backupId } of group.members) {
      expect(await operator.restored(backupId, `${volume}-${group.name}`)).toBe(
        await operator.digest(volume),
      );
    }
  }
});
