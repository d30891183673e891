// Goal: policies fire when they are due, once, whatever becomes of the queue and of workers; members wait for their
// turn and for room, with the reason; what was changed, disabled or deleted in mid-firing counts at once. Method: real
// workers on both queues, by a clock of their own, with scripted storage nodes.
import { randomUUID } from 'node:crypto';
import { Catalog, type FiringWithCounts, type Policy, type PolicyDefinition } from '@tidemark/catalog';
import { POLICY_QUEUE_NAME } from '@tidemark/proto';
import { createQueue } from '@tidemark/proto/queue-connection';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { WorkerLimits } from '../src/limits.ts';
import { Fleet, poll } from './fleet.ts';
import { BACKENDS, type TestQueue } from './queues.ts';

const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
/** On a machine that others use as well. */
const PATIENCE_MS = 150_000;
const TIMEOUT_MS = 300_000;
/** Nothing is found but by the queue. */
const QUEUE_ALONE = { policyLateMs: 24 * HOUR_MS };
const KEEP_NOTHING = { last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
const HOURLY = { cron: '0 * * * *', timeZone: 'UTC', missed: 'once', missedMax: 3, jitterMs: 0 } as const;

/** Whatever comes of the policy: nobody else's runs are held up by it. */
const OF_NIGHTLY = { requestedBy: 'policy nightly', priority: 10 };

let queue: TestQueue;
let fleet: Fleet;
let catalog: Catalog;
let aheadMs: number;
let repositoryId: string;

const now = () => Date.now() + aheadMs;
/** So long before a full hour that is to come. */
function setClock(beforeHourMs: number): void {
  const start = Math.ceil(now() / HOUR_MS) * HOUR_MS;
  aheadMs += start + HOUR_MS - beforeHourMs - now();
}
/** Whoever is too slow for one due moment is there for the next. */
const EACH_MINUTE = { ...HOURLY, cron: '* * * * *' };
const startWorker = (limits: Partial<WorkerLimits> = {}) => fleet.startWorker(limits, { now });

async function open(backend: (typeof BACKENDS)[number]): Promise<void> {
  queue = await backend.open();
  fleet = await Fleet.open(queue.url);
  aheadMs = 0;
  catalog = Catalog.connect(fleet.database.url, { connectionsMax: 2, clock: () => new Date(now()) });
  const worker = await startWorker();
  await fleet.furnish();
  await fleet.succeed(await fleet.createVolume('second'));
  repositoryId = (await catalog.repositories.get('vault')).id;
  await fleet.stopWorker(worker);
}

async function close(): Promise<void> {
  await catalog.close();
  await fleet.close();
  await queue.stop();
}

function policy(more: Partial<PolicyDefinition> = {}, { enabled = true } = {}): Promise<Policy> {
  const definition: PolicyDefinition = {
    ...{ description: '', selector: '', schedule: HOURLY, kind: 'incremental', fullEvery: 0, repositoryId },
    ...{ replicaIds: [], keep: null, verifyPercent: 0, concurrency: 8, bandwidth: [], priority: 10 },
    ...{ retry: { times: 0, delayMs: 0 }, dropOldest: true, grouped: null },
    ...more,
  };
  return catalog.policies.create({ id: randomUUID(), name: 'nightly', definition, enabled });
}

const firings = async ({ id }: Policy): Promise<FiringWithCounts[]> =>
  (await catalog.firings.list({ policyId: id })).items;
const members = async (firing: { id: string }) =>
  (await catalog.firings.members({ firingId: firing.id })).items;
const ended = (of: Policy, count = 1) =>
  poll(
    `${count} firings to end`,
    async () => {
      const all = await firings(of);
      const isOver = all.length >= count && all.every(({ finishedAt }) => finishedAt !== null);
      return isOver ? all : undefined;
    },
    PATIENCE_MS,
  );
/** The oldest, once it is over. */
const firstEnded = (of: Policy) =>
  poll(
    'the first firing to end',
    async () => {
      const first = (await firings(of)).at(-1);
      return first?.finishedAt ? first : undefined;
    },
    PATIENCE_MS,
  );
/** The firing, once its members are as wanted. */
const until = (of: Policy, wanted: Partial<FiringWithCounts['members']>) =>
  poll(
    `members ${JSON.stringify(wanted)}`,
    async () => {
      const [newest] = await firings(of);
      const isSo = Object.entries(wanted).every(
        ([state, count]) => newest?.members[state as 'waiting'] === count,
      );
      return newest && isSo ? newest : undefined;
    },
    PATIENCE_MS,
  );
const backupRuns = async () => (await catalog.runs.list({ kind: 'backup', limit: 1000 })).items;

describe.each(BACKENDS)('policies on $name', { timeout: TIMEOUT_MS }, backend => {
  beforeEach(async context => {
    if (backend.missing !== undefined) context.skip(backend.missing);
    await open(backend);
  });
  afterEach(async () => {
    if (backend.missing === undefined) await close();
  });

  test('the queue wakes workers when a policy is due, and of two each due moment fires once', async () => {
    setClock(2_500);
    const nightly = await policy({ schedule: EACH_MINUTE });
    await Promise.all([startWorker(QUEUE_ALONE), startWorker(QUEUE_ALONE)]);
    const first = (await firstEnded(nightly))!;
    await catalog.policies.setEnabled(nightly.id, false);
    expect(first).toMatchObject({ number: 0, cause: 'schedule', state: 'succeeded', standsFor: 1 });
    expect(first.dueAt.getTime() % MINUTE_MS).toBe(0);
    expect(first.members).toMatchObject({ succeeded: 2, failed: 0 });
    const made = await members(first);
    expect(made.map(({ kind }) => kind)).toEqual(['full', 'full']);
    const all = await ended(nightly);
    expect(new Set(all.map(({ dueAt }) => dueAt.getTime())).size).toBe(all.length);
    const started = all.reduce((sum, firing) => sum + firing.members.succeeded, 0);
    expect(await backupRuns()).toHaveLength(started);
    const run = (await backupRuns()).at(-1)!;
    expect(run).toMatchObject(OF_NIGHTLY);
    expect(run.reason).toContain('nothing to build on');
  });

  test('a queue that lost everything is filled again, and fires', async () => {
    setClock(6_000);
    const nightly = await policy({ schedule: EACH_MINUTE });
    await startWorker(QUEUE_ALONE);
    const broom = createQueue(POLICY_QUEUE_NAME, { url: fleet.queueUrl });
    broom.on('error', () => {});
    const schedulers = () => broom.getJobSchedulersCount();
    await expect.poll(schedulers, { timeout: PATIENCE_MS }).toBe(1);
    await broom.obliterate({ force: true });
    for (const { key } of await broom.getJobSchedulers()) await broom.removeJobScheduler(key);
    const lostAt = now();
    await expect.poll(schedulers, { timeout: PATIENCE_MS }).toBe(1);
    const later = await poll(
      'a firing after the loss',
      async () => (await firings(nightly)).find(({ createdAt }) => createdAt.getTime() > lostAt),
      PATIENCE_MS,
    );
    expect(later.cause).toBe('schedule');
    await catalog.policies.setEnabled(nightly.id, false);
    await expect.poll(schedulers, { timeout: PATIENCE_MS }).toBe(0);
    await broom.close();
  });

  test('what was due while no worker was there goes by the rule of the policy', async () => {
    setClock(60_000);
    const nightly = await policy();
    const skipping = await catalog.policies.create({
      ...{ id: randomUUID(), name: 'skipping', enabled: true },
      definition: { ...nightly.definition, schedule: { ...HOURLY, missed: 'skip' } },
    });
    aheadMs += 3.5 * HOUR_MS;
    await startWorker();
    expect(await ended(nightly)).toMatchObject([{ cause: 'missed', standsFor: 4, state: 'succeeded' }]);
    const [skipped] = await ended(skipping);
    expect(skipped).toMatchObject({ cause: 'missed', standsFor: 4, state: 'skipped', number: null });
    expect(skipped!.reason).toContain('no worker was there at 4 due moments');
    expect((await catalog.policies.get('skipping')).nextDueAt!.getTime()).toBeGreaterThan(now());
  });
});

describe('a firing', { timeout: TIMEOUT_MS }, () => {
  beforeEach(() => open(BACKENDS[0]!));
  afterEach(close);

  const fire = async (of: Policy) => {
    await catalog.policies.fire(of.id);
  };

  test('follows its policy in mid-course: limits raised, disabled, deleted', async () => {
    const nightly = await policy({ concurrency: 1 }, { enabled: false });
    fleet.alpha.holdJobs = true;
    await startWorker();
    await fire(nightly);
    const firing = await until(nightly, { admitted: 1, waiting: 1 });
    const waiting = await poll('the reason', async () =>
      (await members(firing)).find(({ state, reason }) => state === 'waiting' && reason !== null),
    );
    expect(waiting.reason).toBe("policy 'nightly' has 1 of at most 1 backups under way");
    await catalog.policies.update(nightly.id, { definition: { ...nightly.definition, concurrency: 2 } });
    await until(nightly, { admitted: 2 });
    await catalog.policies.delete(nightly.id);
    fleet.alpha.holdJobs = false;
    for (const run of await backupRuns()) await fleet.succeed(run);
    expect(await catalog.policies.find('nightly')).toBeNull();
  });

  test('that waits ends when its policy is disabled, and what was begun goes on', async () => {
    const nightly = await policy({ concurrency: 1 });
    fleet.alpha.holdJobs = true;
    await startWorker();
    await fire(nightly);
    await until(nightly, { admitted: 1, waiting: 1 });
    await catalog.policies.setEnabled(nightly.id, false);
    fleet.alpha.holdJobs = false;
    const [firing] = await ended(nightly);
    expect(firing).toMatchObject({ state: 'succeeded', members: { succeeded: 1, skipped: 1 } });
    expect((await members(firing!)).map(({ reason }) => reason)).toContain("policy 'nightly' was disabled");
    // What did not start is retried, and nothing else.
    expect(await catalog.firings.retry(nightly.id, firing!.id)).toBe(1);
    await until(nightly, { succeeded: 2 });
    expect(await backupRuns()).toHaveLength(2);
    await ended(nightly);
    await expect(catalog.firings.retry(nightly.id, firing!.id)).rejects.toMatchObject({
      code: 'firing-complete',
    });
  });

  test('of the next moment takes the place of members that wait, and leaves out those under way', async () => {
    const nightly = await policy({ concurrency: 1 });
    fleet.alpha.holdJobs = true;
    await startWorker();
    await fire(nightly);
    const first = await until(nightly, { admitted: 1, waiting: 1 });
    await fire(nightly);
    const second = await poll('the second firing', async () => {
      const [newest] = await firings(nightly);
      return newest && newest.id !== first.id && newest.startedAt ? newest : undefined;
    });
    expect(second.members).toMatchObject({ waiting: 1, skipped: 1 });
    const reasons = [...(await members(first)), ...(await members(second))].map(({ reason }) => reason);
    expect(reasons.some(reason => reason?.includes('came before its turn'))).toBe(true);
    expect(reasons.some(reason => reason?.includes('of an earlier firing is still under way'))).toBe(true);
    fleet.alpha.holdJobs = false;
    await ended(nightly, 2);
    expect(await backupRuns()).toHaveLength(2);
  });

  test('keeps to the limits of storage node and repository, and waits for room', async () => {
    const { id: nodeId } = await catalog.storageNodes.update(fleet.nodeIds.alpha, {
      maxConcurrentBackups: 1,
    });
    expect(nodeId).toBe(fleet.nodeIds.alpha);
    for (const volume of fleet.alpha.volumes.values()) volume.allocatedBytes = 700;
    fleet.beta.availableBytes = 699;
    const nightly = await policy({}, { enabled: false });
    await startWorker();
    await fire(nightly);
    const firing = await until(nightly, { waiting: 2 });
    await expect
      .poll(async () => (await members(firing)).map(({ reason }) => reason), { timeout: PATIENCE_MS })
      .toEqual(Array(2).fill("needs up to 700 bytes, and repository 'vault' has 699 left"));
    fleet.alpha.holdJobs = true;
    fleet.beta.availableBytes = 10_000;
    await until(nightly, { admitted: 1, waiting: 1 });
    await expect
      .poll(async () => (await members(firing)).map(({ reason }) => reason), { timeout: PATIENCE_MS })
      .toContain("storage node 'alpha' has 1 of at most 1 backups under way");
    fleet.alpha.holdJobs = false;
    const [over] = await ended(nightly);
    expect(over!.members.succeeded).toBe(2);
    expect((await members(over!)).map(({ estimateBytes }) => estimateBytes)).toEqual([700, 700]);
  });

  test('retries by its rule, and what fails for good says why', async () => {
    fleet.alpha.failJobs({ code: 'image-invalid', message: 'the image is damaged' });
    const nightly = await policy({ retry: { times: 1, delayMs: 10 } }, { enabled: false });
    await startWorker();
    await fire(nightly);
    const [failed] = await ended(nightly);
    expect(failed).toMatchObject({ state: 'failed', members: { failed: 2 } });
    const all = await members(failed!);
    expect(all.map(({ attempts }) => attempts)).toEqual([2, 2]);
    expect(all[0]!.reason).toContain('the image is damaged');
    fleet.alpha.failJobs(undefined);
    expect(await catalog.firings.retry(nightly.id, failed!.id)).toBe(2);
    await until(nightly, { succeeded: 2 });
    expect((await ended(nightly))[0]!.state).toBe('succeeded');
    expect(await backupRuns()).toHaveLength(6);
  });

  test('prunes and verifies what its policy asks for', async () => {
    const nightly = await policy(
      { keep: { ...KEEP_NOTHING, last: 1 }, verifyPercent: 1 },
      { enabled: false },
    );
    await startWorker();
    await fire(nightly);
    const [first] = await ended(nightly);
    expect(first!.followUps.map(({ kind, reason }) => [kind, reason])).toEqual([
      ['prune', 'nothing goes'],
      ['verify', null],
    ]);
    const verified = await fleet.succeed(await catalog.runs.get(first!.followUps[1]!.runId!));
    const { volumeId, checkpointId } = await catalog.backups.get(verified.backupId!);
    expect(verified).toMatchObject({ ...OF_NIGHTLY, volumeId, checkpointId });
    // What another policy keeps of the same backups stays.
    const definition = { ...nightly.definition, keep: { ...KEEP_NOTHING, last: 2 } };
    const other = await catalog.policies.create({
      ...{ id: randomUUID(), name: 'longer', definition, enabled: false },
    });
    await fire(nightly);
    const [second] = await ended(nightly, 2);
    expect((await members(second!)).map(({ kind }) => kind)).toEqual(['incremental', 'incremental']);
    expect(second!.followUps[0]).toMatchObject({ kind: 'prune', reason: 'nothing goes' });
    await catalog.policies.delete(other.id);
    await fire(nightly);
    const [third] = await ended(nightly, 3);
    const prune = third!.followUps.find(({ kind }) => kind === 'prune')!;
    const pruned = await fleet.succeed(await catalog.runs.get(prune.runId!));
    expect(pruned).toMatchObject(OF_NIGHTLY);
    const left = (await catalog.backups.list({ limit: 100 })).items;
    expect(left.map(({ state }) => state)).toEqual(['available', 'available']);
  });

  test('keeps within the bandwidth of the hour, and follows it over the border', async () => {
    setClock(30 * 60_000);
    const hour = new Date(now()).getUTCHours();
    const time = (some: number) => `${String(some % 24).padStart(2, '0')}:00`;
    const windows = [
      { from: time(hour), to: time(hour + 1), days: [], bytesPerSecond: 1000 },
      { from: time(hour + 1), to: time(hour + 2), days: [], bytesPerSecond: 300 },
    ];
    const nightly = await policy({ bandwidth: windows }, { enabled: false });
    fleet.alpha.holdJobs = true;
    await startWorker();
    await fire(nightly);
    await until(nightly, { admitted: 2 });
    const speeds = async () =>
      (await backupRuns()).map(run => run.speedBytesPerSecond ?? run.request.speedBytesPerSecond);
    await expect.poll(speeds, { timeout: PATIENCE_MS }).toEqual([500, 500]);
    aheadMs += HOUR_MS;
    await expect.poll(speeds, { timeout: PATIENCE_MS }).toEqual([150, 150]);
    aheadMs += HOUR_MS;
    await expect.poll(speeds, { timeout: PATIENCE_MS }).toEqual([0, 0]);
    fleet.alpha.holdJobs = false;
    await ended(nightly);
  });

  test('of volumes together is one group of one instant', async () => {
    const grouped = { fenceLimitMs: 5_000, completion: 'individual' as const, hooks: [] };
    const nightly = await policy({ grouped, retry: { times: 1, delayMs: 10 } }, { enabled: false });
    await startWorker();
    await fire(nightly);
    const [firing] = await ended(nightly);
    expect(firing).toMatchObject({ state: 'succeeded', members: { succeeded: 2 } });
    const made = await members(firing!);
    const [runId] = new Set(made.map(member => member.runId));
    expect(await catalog.runs.get(runId!)).toMatchObject({ kind: 'create-group', ...OF_NIGHTLY });
    for (const run of await backupRuns()) expect(run).toMatchObject(OF_NIGHTLY);
    expect(made.map(({ kind }) => kind)).toEqual(['full', 'full']);
    const [group] = (await catalog.groups.list()).items;
    expect(group).toMatchObject({ state: 'ready', kind: 'backup' });
    expect(group!.members.map(({ backupId }) => backupId).sort()).toEqual(
      made.map(({ backupId }) => backupId).sort(),
    );
    await fire(nightly);
    const [second] = await ended(nightly, 2);
    expect((await members(second!)).map(({ kind }) => kind)).toEqual(['incremental', 'incremental']);
  });

  test('brings each backup to other repositories', async () => {
    const other = await fleet.createRepository('other');
    await startWorker();
    const { id: otherId } = await catalog.repositories.get((await fleet.succeed(other)).repositoryId!);
    const nightly = await policy({ replicaIds: [otherId] }, { enabled: false });
    await fire(nightly);
    const [firing] = await ended(nightly);
    expect(firing!.followUps.map(({ kind, reason }) => [kind, reason])).toEqual(
      Array(2).fill(['replicate', null]),
    );
    const made = await members(firing!);
    for (const { runId } of firing!.followUps) {
      const run = await catalog.runs.get(runId!);
      expect(run).toMatchObject({ kind: 'replicate', repositoryId: otherId, ...OF_NIGHTLY });
      const [copied] = run.request.members as { sourceBackupId: string }[];
      expect(made.map(({ backupId }) => backupId)).toContain(copied!.sourceBackupId);
    }
  });

  test('of checkpoints alone takes no backup', async () => {
    const nightly = await policy({ kind: 'checkpoint', repositoryId: null }, { enabled: false });
    await startWorker();
    await fire(nightly);
    const [firing] = await ended(nightly);
    expect(firing).toMatchObject({ state: 'succeeded', members: { succeeded: 2 } });
    expect(await backupRuns()).toEqual([]);
    const names = [...fleet.alpha.checkpoints.values()].map(({ name }) => name);
    expect(names).toHaveLength(2);
    expect(names[0]).toMatch(/^nightly-\d{8}T\d{6}Z$/);
  });
});
