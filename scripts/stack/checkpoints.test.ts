// Goal: an operator takes, names, compares and deletes checkpoints of a live volume from the shell, while backups run
// and after the catalog was lost, and every backup holds what the volume held. Method: the real services in a temporary
// home, the real command, a guest over NBD.
import { Catalog } from '@tidemark/catalog';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Operator } from './testing/operator.ts';

const GRANULE = 64 * 1024;

let operator: Operator;

beforeAll(async () => {
  operator = await Operator.open();
});

afterAll(() => operator?.close());

const tidemark = (...args: string[]) => operator.tidemark(...args);
const refusal = async (...args: string[]) => (await operator.refusal(...args)).stderr;

class TrackedDisk {
  readonly name: string;

  private constructor(name: string) {
    this.name = name;
  }

  static async create(name: string): Promise<TrackedDisk> {
    await operator.createVolume(name, '16MiB');
    return new TrackedDisk(name);
  }

  /** One granule each, flushed. */
  write(byte: number, ...granules: number[]): Promise<void> {
    const bytes = Buffer.alloc(GRANULE, byte);
    const pieces = granules.map(granule => ({ offset: granule * GRANULE, bytes }));
    return operator.writeAll(this.name, pieces);
  }

  digest(): Promise<string> {
    return operator.digest(this.name);
  }

  backup(checkpoint: string, kind: string, ...more: string[]) {
    return operator.backUp(this.name, checkpoint, kind, ...more);
  }

  /** What the backup of a checkpoint holds. */
  async restored(checkpoint: string): Promise<string> {
    const { items } = await operator.json('backup', 'list', '--volume', this.name);
    const { id } = items.find((one: { checkpoint: string }) => one.checkpoint === checkpoint);
    return operator.restored(id, `${this.name}-${checkpoint}`);
  }

  /** Granules, as the stream of lines has them. */
  async changed(since: string, until?: string): Promise<number[]> {
    const ends = ['--since', since, ...(until === undefined ? [] : ['--until', until])];
    const lines = (await tidemark('--json', 'checkpoint', 'changed-blocks', this.name, ...ends)).trim();
    const [end, ...extents] = lines
      .split('\n')
      .map(line => JSON.parse(line))
      .reverse();
    expect(end).toMatchObject({ end: true, granularityBytes: GRANULE, extents: extents.length });
    return extents
      .reverse()
      .flatMap(({ offset, length }) =>
        Array.from({ length: length / GRANULE }, (_, index) => offset / GRANULE + index),
      );
  }

  async checkpoints() {
    const { items } = await operator.json('checkpoint', 'list', this.name);
    return items as { id: string; name: string; changedSinceBytes: number; inconsistent: boolean }[];
  }
}

test('checkpoints are compared, renamed, described, protected and deleted', async () => {
  const disk = await TrackedDisk.create('compared');
  await disk.write(1, 0, 1, 2, 100);
  for (const [index, name] of ['one', 'two', 'three'].entries()) {
    await tidemark('checkpoint', 'create', 'compared', name, '--description', `no. ${index}`);
    await disk.write(2 + index, 10 * index + 10, 10 * index + 11, 200);
  }
  expect(await disk.changed('one')).toEqual([10, 11, 20, 21, 30, 31, 200]);
  expect(await disk.changed('one', 'two')).toEqual([10, 11, 200]);
  expect(await disk.changed('two', 'three')).toEqual([20, 21, 200]);
  const sizes = (await disk.checkpoints()).map(one => one.changedSinceBytes / GRANULE);
  expect(sizes).toEqual([7, 5, 3]);
  const bytes = ['changed-bytes', 'compared', '--since', 'one', '--until', 'three'];
  expect(await tidemark('checkpoint', ...bytes)).toBe('320 KiB (327680 bytes)\n');
  const page = await operator.json(
    'checkpoint',
    'changed-blocks',
    'compared',
    '--since',
    'one',
    '--limit',
    '2',
  );
  expect(page).toMatchObject({ extents: [{ length: 2 * GRANULE }, {}], nextOffset: 22 * GRANULE });

  await tidemark('checkpoint', 'rename', 'compared', 'two', 'second');
  await tidemark('checkpoint', 'describe', 'compared', 'second', 'before the upgrade');
  const shown = await tidemark('checkpoint', 'show', 'compared', 'second');
  expect(shown).toMatch(/^CHANGED SINCE +320 KiB$/m);
  expect(shown).toMatch(/^DESCRIPTION +before the upgrade$/m);
  await tidemark('checkpoint', 'pin', 'compared', 'second', '--until', '2999-12-31');
  expect(await refusal('checkpoint', 'delete', 'compared', 'second')).toMatch(/checkpoint-pinned/);
  await tidemark('checkpoint', 'unpin', 'compared', 'second');
  await tidemark('checkpoint', 'delete', 'compared', 'second');
  expect(await disk.changed('one')).toEqual([10, 11, 20, 21, 30, 31, 200]);
  expect(await disk.changed('one', 'three')).toEqual([10, 11, 20, 21, 200]);
});

test('a full chain refuses, or drops the oldest and says so', async () => {
  const disk = await TrackedDisk.create('full');
  for (const name of ['one', 'two']) await tidemark('checkpoint', 'create', 'full', name);
  await tidemark('volume', 'set', 'full', '--checkpoint-limit', '2');
  const words = await refusal('checkpoint', 'create', 'full', 'three');
  expect(words).toContain("Volume 'full' has 2 checkpoints, and its limit is 2");
  const out = await tidemark('checkpoint', 'create', 'full', 'three', '--drop-oldest');
  expect(out).toMatch(/dropped checkpoint one$/m);
  const backup = await disk.backup('four', 'full', '--drop-oldest');
  expect(backup.run.result.dropped).toMatchObject([{ name: 'two' }]);
  expect((await disk.checkpoints()).map(one => one.name)).toEqual(['three', 'four']);
});

test('checkpoints go while a backup runs, and every backup holds what its moment held', async () => {
  const disk = await TrackedDisk.create('busy');
  await disk.write(1, ...Array.from({ length: 64 }, (_, index) => index));
  await disk.backup('full', 'full');
  for (const [index, name] of ['a', 'b', 'c'].entries()) {
    await disk.write(10 + index, ...Array.from({ length: 24 }, (_, at) => index * 20 + at));
    await tidemark('checkpoint', 'create', 'busy', name);
  }
  await disk.write(20, 1, 90, 91);
  const then = await disk.digest();
  const slow = ['--base', 'full', '--speed', '64KiB', '--no-wait'];
  const { run, backup } = await disk.backup('later', 'incremental', ...slow);
  await expect.poll(async () => (await disk.checkpoints()).length, { timeout: 20_000 }).toBe(5);
  await expect
    .poll(async () => (await disk.checkpoints()).at(-1)!.changedSinceBytes, { timeout: 20_000 })
    .toBe(0);
  await tidemark('run', 'pause', run.id);
  await disk.write(30, ...Array.from({ length: 64 }, (_, index) => 2 * index));
  for (const name of ['b', 'a']) await tidemark('checkpoint', 'delete', 'busy', name);
  expect(await refusal('checkpoint', 'delete', 'busy', 'full')).toMatch(/checkpoint-in-use/);
  expect(await operator.json('run', 'show', run.id)).toMatchObject({ state: 'running', paused: true });
  await tidemark('run', 'speed', run.id, '0');
  await tidemark('run', 'resume', run.id);
  await tidemark('run', 'watch', run.id);
  expect(await operator.json('backup', 'show', backup.id)).toMatchObject({ state: 'available' });
  expect(await disk.restored('later')).toBe(then);
  const now = await disk.digest();
  await disk.backup('last', 'incremental', '--base', 'full');
  expect(await disk.restored('last')).toBe(now);
}, 120_000);

test('CP-06 the catalog loses its checkpoints, and increments go on from them', async () => {
  const disk = await TrackedDisk.create('lost');
  await disk.write(1, 1, 2, 3);
  await disk.backup('full', 'full');
  await disk.write(2, 3, 4);
  await tidemark('checkpoint', 'create', 'lost', 'noon', '--description', 'kept');
  await disk.write(3, 5);
  const before = await disk.checkpoints();
  const catalog = Catalog.connect(operator.stack.databaseUrl, { connectionsMax: 1 });
  for (const { id } of before) await catalog.checkpoints.delete(id, null);
  await catalog.close();
  expect(await disk.checkpoints()).toEqual([]);
  const look = await tidemark('checkpoint', 'redefine', 'lost', '--validate-only');
  expect(look).toMatch(/^2 could be defined anew$/m);
  expect(await disk.checkpoints()).toEqual([]);
  expect(await tidemark('checkpoint', 'redefine', 'lost')).toMatch(/^2 defined anew$/m);
  const after = await disk.checkpoints();
  expect(after.map(({ id, name, changedSinceBytes }) => [id, name, changedSinceBytes])).toEqual(
    before.map(({ id, name, changedSinceBytes }) => [id, name, changedSinceBytes]),
  );
  expect(await tidemark('checkpoint', 'redefine', 'lost')).toMatch(/^0 defined anew$/m);
  const now = await disk.digest();
  const { backup } = await disk.backup('next', 'incremental');
  expect(backup.dirtyBytes).toBe(3 * GRANULE);
  expect(await disk.restored('next')).toBe(now);
}, 60_000);
