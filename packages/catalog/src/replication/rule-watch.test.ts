// Goal: what a rule asks for, kept true by events, is what a look at all backups of both repositories says, whatever
// happens in between. Method: random histories of volumes, backups, replicas, prunes, leases and labels through the
// catalog itself, chains that cross volumes among them; after each step the watch beside the naive answer.
import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Catalog, type ReplicationRule, type RetentionRow } from '../index.ts';
import { createTestDatabase, inDatabase, type TestDatabase } from '../testing/index.ts';
import { addBackup, seed } from '../testing/nouns.ts';
import { lookAtRule } from './rule-status.ts';
import { RULE_WATCH_LIMITS, RuleWatch } from './rule-watch.ts';

const DAY_MS = 86_400_000;
const STEPS = 40;
const VOLUMES = 4;
/** Small, so that a look has several pages. */
const LIMITS = { ...RULE_WATCH_LIMITS, volumesAtOnce: 2 };
const NOTHING = { last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
const runId = randomUUID();

let database: TestDatabase;
let catalog: Catalog;
let nowMs: number;
let source: string;
let target: string;
/** Where another rule may copy on what has come to the target. */
let further: string;
let volumeIds: string[];

beforeEach(async () => {
  database = await createTestDatabase();
  nowMs = Date.UTC(2026, 10, 1);
  catalog = Catalog.connect(database.url, { clock: () => new Date(nowMs) });
  const { node, volume, repository } = await seed(catalog);
  source = repository.id;
  [target, further] = [randomUUID(), randomUUID()];
  for (const [id, name] of [[target, 'offsite'] as const, [further, 'further'] as const]) {
    await catalog.repositories.create({ id, name, storageNodeId: node.id, limitBytes: null });
    await catalog.repositories.markReady(id, null);
  }
  volumeIds = [volume.id];
  while (volumeIds.length < VOLUMES) {
    const id = randomUUID();
    const wanted = { id, name: `disk-${volumeIds.length}`, storageNodeId: node.id, sizeBytes: 2 ** 40 };
    await catalog.volumes.create({ ...wanted, format: 'raw' });
    await catalog.volumes.markReady(id, { exportUri: `nbd://h:1/${id}`, sizeBytes: 2 ** 40 }, null);
    volumeIds.push(id);
  }
});
afterEach(async () => {
  await catalog.close();
  await database.drop();
});

/** mulberry32 */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function makeRule(more: Partial<ReplicationRule>): Promise<ReplicationRule> {
  return catalog.replicationRules.create({
    ...{ id: randomUUID(), name: 'away', sourceRepositoryId: source, targetRepositoryId: target },
    ...{ selector: '', enabled: true, keep: null, timeZone: 'UTC', flatten: false, newestFirst: false },
    ...{ concurrency: 2, speedBytesPerSecond: null },
    ...more,
  });
}

async function naive(rule: ReplicationRule) {
  const { next, goes } = (await lookAtRule(catalog, rule, { now: new Date(nowMs) })).plan;
  return { next, prunedVolumeIds: [...new Set(goes.map(({ volumeId }) => volumeId))].sort() };
}

/** What may happen; each may find nothing to do. */
class World {
  readonly #random: () => number;
  #count = 0;

  constructor(random: () => number) {
    this.#random = random;
  }

  async step(): Promise<string> {
    const acts = [
      ...[this.#back, this.#back, this.#back, this.#replicate, this.#replicate, this.#replicate],
      ...[this.#end, this.#end, this.#hide, this.#remove, this.#damage, this.#pin, this.#lease],
      ...[this.#label, this.#pass, this.#other, this.#onward, this.#arrive],
    ];
    const act = acts[Math.floor(this.#random() * acts.length)]!;
    return act.call(this);
  }

  #pick<T>(items: readonly T[]): T | undefined {
    return items[Math.floor(this.#random() * items.length)];
  }

  async #row(repositoryId: string, is: (row: RetentionRow) => boolean): Promise<RetentionRow | undefined> {
    return this.#pick((await catalog.retention.backups(repositoryId)).filter(is));
  }

  /** On any backup that there is: those of other volumes, too. */
  async #back(): Promise<string> {
    const volumeId = this.#pick(volumeIds)!;
    const at = new Date(nowMs + (this.#random() < 0.1 ? DAY_MS : 0));
    const isFull = this.#random() < 0.2;
    const parent = isFull ? undefined : await this.#row(source, ({ state }) => state === 'available');
    const checkpoint = `c${++this.#count}`;
    const base = parent && { parentId: parent.id };
    await addBackup(catalog, { volumeId, repositoryId: source, checkpoint, at, ...base });
    return `backup ${checkpoint} of ${volumeId} on ${parent?.checkpoint}`;
  }

  async #replicate(): Promise<string> {
    const there = new Map((await catalog.retention.backups(target)).map(row => [row.checkpointId, row]));
    const all = new Map((await catalog.retention.backups(source)).map(row => [row.id, row]));
    const row = this.#pick(
      [...all.values()].filter(one => one.state === 'available' && !there.has(one.checkpointId)),
    );
    if (row === undefined) return 'nothing to replicate';
    const { volumeId, checkpointId, checkpoint, createdAt, id: replicaOfId, pointInTime } = row;
    const parent = there.get(all.get(row.parentId ?? '')?.checkpointId ?? '');
    const parentId = parent?.state === 'available' ? parent.id : null;
    const id = randomUUID();
    const common = { id, repositoryId: target, volumeId, volumeName: 'x', checkpointId, checkpoint };
    const facts = { parentId, replicaOfId, createdAt, reason: 'replica', sizeBytes: 2 ** 40 };
    await catalog.backups.create({ ...common, ...facts });
    await catalog.backups.markStarted(id, { pointInTime: pointInTime!, dirtyBytes: 1 });
    return `replica of ${checkpoint} begun`;
  }

  async #end(): Promise<string> {
    const row = await this.#row(target, ({ state }) => state === 'creating');
    if (row === undefined) return 'nothing to end';
    const isLeaf = (await catalog.retention.childrenOf(row.id)).length === 0;
    if (this.#random() < 0.3 && isLeaf) {
      await catalog.backups.deleteUnfinished(row.id, runId);
      return `replica of ${row.checkpoint} dropped`;
    }
    const facts = { storedBytes: 1, sentBytes: 1, fileName: 'x' };
    await catalog.backups.markAvailable(row.id, facts, runId);
    return `replica of ${row.checkpoint} there`;
  }

  async #hide(): Promise<string> {
    const place = this.#random() < 0.5 ? source : target;
    const row = await this.#row(place, ({ state, holders }) => state === 'available' && holders.length === 0);
    if (row !== undefined) await catalog.retention.hide([row.id], runId);
    return `hidden: ${row?.checkpoint}`;
  }

  async #remove(): Promise<string> {
    const place = this.#random() < 0.5 ? source : target;
    const row = await this.#row(place, ({ state }) => state === 'hidden');
    if (row === undefined) return 'nothing to remove';
    const children = await catalog.retention.childrenOf(row.id);
    if (children.length > 1) return 'several stand on it';
    await catalog.retention.markRemoving(row.id, runId);
    const kind = row.parentId === null ? 'full' : 'incremental';
    const merged = children.map(id => ({ id, parentId: row.parentId, kind, reason: 'm', storedBytes: 1 }));
    await catalog.retention.finish(row.id, merged, runId);
    return `removed: ${row.checkpoint}`;
  }

  async #damage(): Promise<string> {
    const row = await this.#row(this.#random() < 0.5 ? source : target, ({ state }) => state === 'available');
    if (row === undefined) return 'nothing to damage';
    await catalog.backupDamage.note(row.id, [{ offset: 0, length: 65_536 }], runId);
    return `damaged: ${row.checkpoint}`;
  }

  async #pin(): Promise<string> {
    const row = await this.#row(this.#random() < 0.5 ? source : target, ({ state }) => state === 'available');
    const pinnedUntil = new Date(nowMs + this.#random() * 2 * DAY_MS);
    if (row !== undefined) await catalog.retention.change(row.id, { pinnedUntil });
    return `pinned: ${row?.checkpoint}`;
  }

  /** No event tells of it. */
  async #lease(): Promise<string> {
    const held = await this.#row(target, ({ holders, state }) => state === 'available' && holders.length > 0);
    if (held !== undefined) {
      await catalog.backupLeases.drop('run', runId);
      return 'leases dropped';
    }
    const row = await this.#row(target, ({ state }) => state === 'available');
    if (row !== undefined) await catalog.backupLeases.take(row.id, 'run', runId);
    return `lease on ${row?.checkpoint}`;
  }

  async #label(): Promise<string> {
    const labels: Record<string, string> = this.#random() < 0.5 ? { app: 'shop' } : {};
    const id = this.#pick(volumeIds)!;
    await catalog.volumes.update(id, { labels });
    return `labels of ${id}: ${JSON.stringify(labels)}`;
  }

  /** Another rule keeps more, or nothing any more. */
  async #other(): Promise<string> {
    if ((await catalog.replicationRules.find('other')) !== null) {
      await catalog.replicationRules.delete('other');
      return 'no other rule';
    }
    await makeRule({ name: 'other', keep: { ...NOTHING, last: 4 } });
    return 'another rule';
  }

  /** What a rule has yet to copy on does not go. */
  async #onward(): Promise<string> {
    const rule = await catalog.replicationRules.find('onward');
    if (rule === null)
      await makeRule({ name: 'onward', sourceRepositoryId: target, targetRepositoryId: further });
    else await catalog.replicationRules.update('onward', { enabled: !rule.enabled });
    return `copied on: ${!rule?.enabled}`;
  }

  async #arrive(): Promise<string> {
    const there = new Set((await catalog.retention.backups(further)).map(({ checkpointId }) => checkpointId));
    const row = await this.#row(
      target,
      ({ state, checkpointId }) => state === 'available' && !there.has(checkpointId),
    );
    if (row === undefined) return 'nothing to copy on';
    const { volumeId, checkpointId, checkpoint, id: replicaOfId } = row;
    const id = randomUUID();
    const common = { id, repositoryId: further, volumeId, volumeName: 'x', checkpointId, checkpoint };
    await catalog.backups.create({
      ...common,
      parentId: null,
      replicaOfId,
      reason: 'on',
      sizeBytes: 2 ** 40,
    });
    await catalog.backups.markStarted(id, { pointInTime: row.pointInTime!, dirtyBytes: 1 });
    await catalog.backups.markAvailable(id, { storedBytes: 1, sentBytes: 1, fileName: 'x' }, runId);
    return `${checkpoint} copied on`;
  }

  async #pass(): Promise<string> {
    nowMs += this.#random() * DAY_MS;
    return `it is ${new Date(nowMs).toISOString()}`;
  }
}

const SETTINGS: [string, Partial<ReplicationRule>][] = [
  ['everything', {}],
  ['the last two', { keep: { ...NOTHING, last: 2 } }],
  ['days, of chosen volumes', { keep: { ...NOTHING, daily: 2 }, selector: 'app=shop' }],
  ['flattened, newest first', { keep: { ...NOTHING, last: 3 }, flatten: true, newestFirst: true }],
];

test.each(SETTINGS)(
  'the watch says what a look at all says: %s',
  { timeout: 300_000 },
  async (name, more) => {
    const random = seeded(name.length);
    const world = new World(random);
    const rule = await makeRule(more);
    const watch = new RuleWatch(LIMITS);
    const history: string[] = [];
    for (let step = 0; step < STEPS; step++) {
      history.push(await world.step());
      // Leases are found out within a while: the next look is after it.
      nowMs += LIMITS.recheckMs + 1;
      // Several things may happen between two looks.
      if (random() < 0.3) continue;
      const { next, prunedVolumeIds } = await watch.look(catalog, rule, new Date(nowMs));
      const found = { next, prunedVolumeIds: prunedVolumeIds.toSorted() };
      expect(found, history.join('\n')).toEqual(await naive(rule));
    }
  },
);

test('a look reads only what something was told of, and all when the rule changes', async () => {
  const rule = await makeRule({});
  const watch = new RuleWatch();
  const read: string[][] = [];
  const { backups } = catalog.retention;
  catalog.retention.backups = (id, some) => {
    read.push([...(some?.volumeIds ?? ['all'])].sort());
    return backups.call(catalog.retention, id, some);
  };
  const look = () => watch.look(catalog, rule, new Date(nowMs));
  const at = new Date(nowMs);
  for (const volumeId of volumeIds) {
    await addBackup(catalog, { volumeId, repositoryId: source, checkpoint: 'c', at });
  }
  expect((await look()).next).toHaveLength(VOLUMES);
  expect(read).toEqual([volumeIds.toSorted(), volumeIds.toSorted()]);
  read.length = 0;
  expect((await look()).next).toHaveLength(VOLUMES);
  expect(read).toEqual([]);
  const volumeId = volumeIds[1]!;
  await addBackup(catalog, { volumeId, repositoryId: source, checkpoint: 'd', at });
  await look();
  expect(read).toEqual([[volumeId], [volumeId]]);
  read.length = 0;
  await inDatabase(database.url, client => client.query('UPDATE replication_rule SET flatten = true'));
  const changed = await catalog.replicationRules.get('away');
  const { next } = await watch.look(catalog, changed, new Date(nowMs));
  expect(next.map(({ flatten }) => flatten)).toEqual(volumeIds.map(() => true));
  expect(read).toEqual([volumeIds.toSorted(), volumeIds.toSorted()]);
});
