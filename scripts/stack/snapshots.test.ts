// Goal: an operator takes snapshots of a live volume and commits them, and the guest finds its data whatever was
// decided and whatever was killed. Method: the real services in a temporary home, driven through the REST API,
// a guest over NBD.
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Operator } from './testing/operator.ts';

const MiB = 1024 * 1024;
const DISK_MIB = 8;

let operator: Operator;

beforeAll(async () => {
  operator = await Operator.open({}, { nodes: ['alpha'] });
});

afterAll(() => operator?.close());

/** A disk whose MiBs are each full of one byte. */
class LayeredDisk {
  readonly name: string;

  private constructor(name: string) {
    this.name = name;
  }

  /** First MiB 1, 2, 3 with a snapshot after each but the last. */
  static async create(name: string): Promise<LayeredDisk> {
    await operator.createVolume(name, `${DISK_MIB}MiB`);
    const disk = new LayeredDisk(name);
    await disk.write(0, 1);
    await disk.write(3, 1);
    await disk.snapshot('one');
    await disk.write(0, 2);
    await disk.write(1, 2);
    await disk.snapshot('two');
    await disk.write(0, 3);
    await disk.write(2, 3);
    return disk;
  }

  write(atMiB: number, byte: number): Promise<void> {
    return operator.write(this.name, atMiB * MiB, Buffer.alloc(MiB, byte));
  }

  /** The byte that each MiB is full of. */
  async contents(): Promise<number[]> {
    const all = await operator.contents(this.name);
    return Array.from({ length: DISK_MIB }, (_, index) => {
      const part = all.subarray(index * MiB, (index + 1) * MiB);
      expect(part.every(byte => byte === part[0])).toBe(true);
      return part[0]!;
    });
  }

  snapshot(name: string) {
    return operator.post(`volumes/${this.name}/snapshots`, { name });
  }

  async snapshots(): Promise<string[]> {
    const { items } = await operator.get(`volumes/${this.name}/snapshots`);
    return items.map((item: { name: string }) => item.name);
  }

  async commit(request: object) {
    return (await operator.post(`volumes/${this.name}/commits`, request)).commit;
  }

  finish(id: string, decision: 'pivot' | 'keep') {
    return operator.post(`volumes/${this.name}/commits/${id}/${decision}`);
  }
}

const AFTER = [3, 2, 3, 1, 0, 0, 0, 0];

test('a snapshot is merged into the one below, and then the guest moves to the base', async () => {
  const disk = await LayeredDisk.create('moved');
  expect(await disk.snapshots()).toEqual(['one', 'two']);
  expect(await disk.commit({ top: 'two' })).toMatchObject({
    state: 'done',
    lostSnapshots: [{ name: 'one' }],
  });
  expect(await disk.snapshots()).toEqual(['two']);
  expect(await disk.contents()).toEqual(AFTER);
  const commit = await disk.commit({ active: true });
  expect(commit).toMatchObject({ state: 'ready', lostSnapshots: [{ name: 'two' }] });
  await disk.write(5, 5);
  await expect(disk.snapshot('x')).rejects.toThrow('(volume-busy)');
  expect((await disk.finish(commit.id, 'pivot')).commit).toMatchObject({ state: 'done', decision: 'pivot' });
  await disk.write(6, 6);
  const now = AFTER.with(5, 5).with(6, 6);
  expect(await disk.contents()).toEqual(now);
  await expect(disk.commit({ active: true })).rejects.toThrow(/snapshot.*\(commit-invalid\)/);
  await disk.snapshot('again');
  expect(await disk.contents()).toEqual(now);
});

test('a guest can be left where it is', async () => {
  const disk = await LayeredDisk.create('kept');
  const { id } = await disk.commit({ active: true, shallow: true });
  await disk.finish(id, 'keep');
  await disk.write(7, 7);
  expect(await disk.contents()).toEqual(AFTER.with(7, 7));
  expect(await disk.snapshots()).toEqual(['one']);
});

test('a commit is cancelled while it copies', async () => {
  const disk = await LayeredDisk.create('cancelled');
  const slow = { active: true, speedBytesPerSecond: 1 };
  const { commit, run } = await operator.post('volumes/cancelled/commits', slow, 'accepted');
  const path = `volumes/cancelled/commits/${commit.id}`;
  while ((await operator.get(path)).state !== 'copying') await delay(50);
  await expect(operator.post(`${path}/pivot`)).rejects.toThrow('(commit-not-ready)');
  await operator.post(`runs/${run.id}/cancel`, undefined, 'accepted');
  while ((await operator.get(path)).state !== 'cancelled') await delay(50);
  expect(await disk.contents()).toEqual(AFTER);
  const { id } = await disk.commit({ active: true });
  await disk.finish(id, 'pivot');
  expect(await disk.contents()).toEqual(AFTER);
});

test('a storage node that is killed while a commit waits ends it, and a new one begins anew', async () => {
  const disk = await LayeredDisk.create('killed');
  const { id } = await disk.commit({ active: true });
  await operator.kill('alpha');
  const path = `volumes/killed/commits/${id}`;
  const refusal = async () => String(await operator.post(`${path}/pivot`).catch((error: Error) => error));
  let words = await refusal();
  while (words.includes('(storage-node-unreachable)')) words = await refusal();
  expect(words).toMatch(/was restarted.*begins with its first phase.*\(commit-not-found\)/);
  expect(await operator.get(path)).toMatchObject({ state: 'failed' });
  expect(await disk.contents()).toEqual(AFTER);
  // The catalog may not have heard yet that the storage node is back.
  while ((await operator.get('storage-nodes/alpha')).state !== 'online') await delay(50);
  const next = await disk.commit({ active: true });
  await disk.write(4, 4);
  await disk.finish(next.id, 'pivot');
  expect(await disk.contents()).toEqual(AFTER.with(4, 4));
});
