// Goal: a group is decided once and for good, its members end once, and of a grouped backup either all may be published
// or none, whoever asks first. Method: a real database.
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { Catalog } from './catalog.ts';
import type { Group, NewGroup } from './group-repository.ts';
import { createTestDatabase, type TestDatabase } from './testing/index.ts';
import { seed } from './testing/nouns.ts';

const AT = new Date('2026-11-21T08:00:00.000Z');
const FAULT = { code: 'moment-lost', message: 'The scratch is full.' };
let database: TestDatabase;
let catalog: Catalog;
let nouns: Awaited<ReturnType<typeof seed>>;
let count = 0;
let name: string;

beforeAll(async () => {
  database = await createTestDatabase();
  catalog = Catalog.connect(database.url);
  nouns = await seed(catalog);
});
afterAll(async () => {
  await catalog.close();
  await database.drop();
});
beforeEach(() => {
  count += 1;
  name = `group-${count}`;
});

function create(
  more: Partial<NewGroup> = {},
  volumeIds: string[] = [randomUUID(), randomUUID()],
): Promise<Group> {
  const members = volumeIds.map((volumeId, index) => ({
    ...{ volumeId, volumeName: `disk-${index}`, storageNodeId: nouns.node.id, checkpointId: randomUUID() },
    ...{ backupId: more.repositoryId ? randomUUID() : null, runId: more.repositoryId ? randomUUID() : null },
  }));
  const group = {
    id: randomUUID(),
    name,
    kind: 'checkpoint',
    completion: 'grouped',
    selector: null,
  } as const;
  const facts = { fenceLimitMs: 500, repositoryId: null, runId: randomUUID() };
  return catalog.groups.create({ ...group, ...facts, ...more }, members);
}

const createBackup = () => create({ kind: 'backup', repositoryId: nouns.repository.id });
const states = async ({ id }: Group) => (await catalog.groups.get(id)).members.map(({ state }) => state);
const decide = ({ id }: Group) => catalog.groups.decide(id, { pointInTime: AT, proof: { nodes: [] } });

test('a group is found by id and name, and its name is free again once it was given up', async () => {
  const first = await create();
  expect(await catalog.groups.get(name)).toEqual(first);
  expect(first.members.map(({ state }) => state)).toEqual(['creating', 'creating']);
  await expect(create()).rejects.toMatchObject({ code: 'group-name-taken' });
  await catalog.groups.setMember(first.id, first.members[1]!.volumeId, { state: 'failed', error: FAULT });
  await catalog.groups.end(first.id, { state: 'failed', error: FAULT });
  expect(await catalog.groups.get(name)).toMatchObject({ id: first.id, state: 'failed', error: FAULT });
  expect(await states(first)).toEqual(['cancelled', 'failed']);
  const second = await create();
  expect((await catalog.groups.get(name)).id).toBe(second.id);
  expect((await catalog.groups.get(first.id)).state).toBe('failed');
  const { items } = await catalog.groups.list({ limit: 2 });
  expect(items.map(({ id }) => id)).toEqual([second.id, first.id]);
  expect((await catalog.groups.list({ state: 'failed', limit: 1 })).items[0]!.id).toBe(first.id);
  await expect(catalog.groups.get('nobody')).rejects.toMatchObject({ code: 'group-not-found' });
});

test('it is decided with its proof, and not any more once it was given up', async () => {
  const group = await create();
  await decide(group);
  expect(await catalog.groups.get(group.id)).toMatchObject({ pointInTime: AT, proof: { nodes: [] } });
  expect(await states(group)).toEqual(['ready', 'ready']);
  const lost = await create({ name: `${name}-lost` });
  await catalog.groups.end(lost.id, { state: 'cancelled', error: FAULT });
  await expect(decide(lost)).rejects.toMatchObject({ code: 'group-not-ready' });
  expect((await catalog.groups.get(lost.id)).pointInTime).toBeNull();
});

test('members of a grouped backup are published when all are checked, and a member ends once', async () => {
  const group = await createBackup();
  await decide(group);
  const [one, two] = group.members.map(({ volumeId }) => volumeId);
  await catalog.groups.setMember(group.id, one!, { state: 'checked' });
  expect(await catalog.groups.askToPublish(group.id)).toBe('waiting');
  await catalog.groups.setMember(group.id, two!, { state: 'checked' });
  const asked = await Promise.all([
    catalog.groups.askToPublish(group.id),
    catalog.groups.askToPublish(group.id),
  ]);
  expect(asked).toEqual(['allowed', 'allowed']);
  expect(await catalog.groups.refusePublication(group.id)).toBe('allowed');
  await catalog.groups.setMember(group.id, one!, { state: 'ready' });
  await catalog.groups.setMember(group.id, one!, { state: 'failed', error: FAULT });
  expect((await states(group)).sort()).toEqual(['checked', 'ready']);
});

test('once refused, none is published', async () => {
  const group = await createBackup();
  await decide(group);
  expect(await catalog.groups.refusePublication(group.id)).toBe('refused');
  for (const { volumeId } of group.members) {
    await catalog.groups.setMember(group.id, volumeId, { state: 'checked' });
  }
  expect(await catalog.groups.askToPublish(group.id)).toBe('refused');
});

test('asked and refused at the same time, all are told the same', async () => {
  for (let round = 0; round < 8; round++) {
    name = `race-${round}`;
    const group = await createBackup();
    await decide(group);
    for (const { volumeId } of group.members) {
      await catalog.groups.setMember(group.id, volumeId, { state: 'checked' });
    }
    const answers = await Promise.all([
      catalog.groups.askToPublish(group.id),
      catalog.groups.refusePublication(group.id),
      catalog.groups.askToPublish(group.id),
    ]);
    expect(new Set(answers).size).toBe(1);
  }
});

test('a volume of a group being made is not deleted, and a deletion that is given up changes nothing', async () => {
  const { volume } = nouns;
  const group = await create({}, [volume.id]);
  await expect(catalog.volumes.markDeleting(volume.id, randomUUID())).rejects.toThrow(
    `belongs to group '${name}', which is creating`,
  );
  await expect(catalog.moves.begin(volume.id, randomUUID())).rejects.toMatchObject({ code: 'volume-busy' });
  await expect(catalog.groups.markDeleting(group.id, randomUUID())).rejects.toMatchObject({
    code: 'group-not-ready',
  });
  await decide(group);
  await catalog.groups.end(group.id, { state: 'incomplete', error: FAULT });
  const runId = randomUUID();
  expect(await catalog.groups.markDeleting(group.id, runId)).toMatchObject({ state: 'incomplete' });
  await catalog.groups.unmarkDeleting(group.id, 'incomplete', runId);
  expect(await catalog.groups.get(group.id)).toMatchObject({ state: 'incomplete', error: FAULT });
  await catalog.groups.delete(group.id, runId);
  await catalog.groups.delete(group.id, runId);
  expect(await catalog.groups.find(group.id)).toBeNull();
});

test('a run that waits is woken, and one that works is left alone', async () => {
  const { volume } = nouns;
  const newRun = () =>
    catalog.runs.create({ id: randomUUID(), kind: 'delete-volume', volumeId: volume.id, request: {} });
  const [waits, works] = [await newRun(), await newRun()];
  const claim = (id: string) => catalog.leases.claim(id, { owner: 'one', leaseMs: 60_000, attempt: 1 });
  const claimed = await claim(waits.id);
  await claim(works.id);
  await catalog.leases.handBack(claimed!.lease, { delayMs: 3_600_000 });
  const ready = async () => (await catalog.runs.listDispatchable(10)).map(({ id }) => id);
  expect(await ready()).not.toContain(waits.id);
  await catalog.runs.wake([waits.id, works.id, randomUUID()]);
  expect(await ready()).toContain(waits.id);
  expect(await ready()).not.toContain(works.id);
});
