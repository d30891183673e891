// Goal: what changed between any two checkpoints is known exactly, whatever happens to the ones between. Method: a
// storage node over gRPC, a guest over NBD, a second storage node with a repository, and a model of sets.
import { randomUUID } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { VOLUME_CHECKPOINTS_MAX } from '../src/limits.ts';
import { MiB } from '../src/testing/backups.ts';
import { CheckpointModel, GRANULE } from '../src/testing/checkpoint-model.ts';
import { createVolume, jobEnd, readDisk } from '../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';
import { Disk } from '../src/testing/snapshot-disk.ts';

/** Four checkpoints, with writes after each. */
async function fourCheckpoints(seed: number): Promise<CheckpointModel> {
  const model = await CheckpointModel.make(seed);
  await model.write(30);
  for (let index = 0; index < 4; index++) {
    await model.take();
    await model.write(12);
  }
  return model;
}

const content = (model: CheckpointModel) => readDisk(model.pair.volume.exportUri);

describe('what changed', () => {
  test('CP-03 since a checkpoint, and between any two, is the union of what was written in between', async () => {
    const model = await fourCheckpoints(3);
    expect(model.expected(model.ids[0]!).length).toBeGreaterThan(20);
    expect(await model.differences()).toEqual([]);
    await model.pair.source.restart();
    expect(await model.differences()).toEqual([]);
  });

  test('is listed in a stretch, and refused outside the disk or the wrong way round', async () => {
    const model = await fourCheckpoints(4);
    const { volumeId, ids } = model;
    const [first, second] = ids;
    const ask = (request: object) =>
      model.calls.countChangedBytes({ volumeId, sinceCheckpointId: first!, ...request });
    const low = await ask({ length: 8 * MiB });
    const high = await ask({ offset: 8 * MiB });
    expect(low.changedBytes + high.changedBytes).toBe(model.expected(first!).length * GRANULE);
    await expect(ask({ offset: 17 * MiB })).rejects.toMatchObject({ code: 'invalid-request' });
    await expect(ask({ sinceCheckpointId: second, untilCheckpointId: first })).rejects.toMatchObject({
      code: 'invalid-request',
      message: expect.stringContaining("'c1'"),
    });
    await expect(ask({ untilCheckpointId: first })).rejects.toMatchObject({ code: 'invalid-request' });
    await expect(model.changed(randomUUID())).rejects.toMatchObject({ code: 'checkpoint-not-found' });
    await expect(model.changed(first!, randomUUID())).rejects.toMatchObject({ code: 'checkpoint-not-found' });
    const elsewhere = { volumeId: randomUUID(), sinceCheckpointId: first! };
    const parts = model.pair.source.clients.listChangedBlocks(elsewhere)[Symbol.asyncIterator]();
    await expect(parts.next()).rejects.toMatchObject({ code: 'volume-not-found' });
  });

  test('CP-09 is never estimated at less than an increment sends', async () => {
    const model = await CheckpointModel.make(9);
    await model.write(40);
    const { backup: full } = await model.pair.backUp();
    model.adopt(full.checkpointId);
    await model.write(25);
    const estimate = (await model.pair.checkpoints())[0]!.changedSinceBytes;
    const { backup, end } = await model.pair.backUp(full);
    expect(estimate).toBe(model.expected(full.checkpointId).length * GRANULE);
    expect(backup.dirtyBytes).toBeLessThanOrEqual(estimate);
    expect(end.sentBytes).toBeLessThanOrEqual(estimate);
    expect(end.sentBytes).toBeGreaterThan(0);
  });
});

describe('deleting', () => {
  test.each([
    ['CP-05 the root', 0],
    ['CP-04 one in the middle', 1],
    ['CP-04 another in the middle', 2],
    ['CP-05 the leaf', 3],
  ])('%s changes no surviving increment by a bit', async (_name, index) => {
    const model = await fourCheckpoints(40 + index);
    await model.remove(model.ids[index]!);
    expect(await model.differences()).toEqual([]);
    await model.write(5);
    expect(await model.differences()).toEqual([]);
    await model.pair.source.restart();
    expect(await model.differences()).toEqual([]);
  });

  test('CP-05 the only one ends the recording, and the next one begins it anew', async () => {
    const model = await CheckpointModel.make(5);
    await model.remove(await model.take());
    expect(await model.pair.checkpoints()).toEqual([]);
    await model.write(5);
    await model.take();
    await model.write(5);
    expect(await model.differences()).toEqual([]);
  });

  test('CP-04 while a backup runs leaves the backup, and later ones, byte for byte what they have to be', async () => {
    const model = await CheckpointModel.make(44);
    await model.write(60);
    const { backup: full } = await model.pair.backUp();
    model.adopt(full.checkpointId);
    await model.write(20);
    const middle = await model.take();
    await model.write(20);
    const { backup: second } = await model.pair.backUp(full);
    model.adopt(second.checkpointId);
    await model.write(30);
    const other = await model.take();
    await model.write(30);
    const then = await content(model);
    // Slow enough that everything below happens while it runs.
    const running = await model.pair.start({ parent: second, speedBytesPerSecond: MiB });
    model.adopt(running.checkpointId);
    const isRunning = async () =>
      (await model.pair.source.clients.jobs.getJob({ jobId: running.jobId })).state;
    await model.write(20);
    // One before its base, one that its bits come from, its base itself.
    for (const id of [middle, other, second.checkpointId]) {
      await model.remove(id);
      expect(await model.differences()).toEqual([]);
      await model.write(10);
    }
    expect(await isRunning()).toBe('running');
    await model.pair.source.clients.jobs.setJobSpeed({
      step: newStep(),
      jobId: running.jobId,
      speedBytesPerSecond: 0,
    });
    expect((await jobEnd(model.pair.source, running.jobId)).error).toBeUndefined();
    await model.pair.publish(running, second);
    expect((await model.pair.restored(running)).equals(then)).toBe(true);
    expect(await model.differences()).toEqual([]);
    const now = await content(model);
    const { backup: next } = await model.pair.backUp(running);
    model.adopt(next.checkpointId);
    expect((await model.pair.restored(next)).equals(now)).toBe(true);
    expect((await model.pair.restored(full)).equals(now)).toBe(false);
  });
});

test('CP-02 a checkpoint and its backup are of one instant, whatever the guest writes meanwhile', async () => {
  const model = await CheckpointModel.make(2);
  await model.write(60);
  let going = true;
  let rounds = 0;
  const writing = (async () => {
    for (; going; rounds++) await model.write(3);
  })();
  const backup = await model.pair.start({ speedBytesPerSecond: 8 * MiB });
  expect((await jobEnd(model.pair.source, backup.jobId)).error).toBeUndefined();
  going = false;
  await writing;
  expect(rounds).toBeGreaterThan(3);
  await model.pair.publish(backup);
  const [then, now] = [await model.pair.restored(backup), await content(model)];
  const differing = [];
  for (let at = 0; at < now.length; at += GRANULE) {
    if (!now.subarray(at, at + GRANULE).equals(then.subarray(at, at + GRANULE))) differing.push(at / GRANULE);
  }
  expect(differing.length).toBeGreaterThan(3);
  const changed = new Set(await model.changed(backup.checkpointId));
  expect(differing.filter(granule => !changed.has(granule))).toEqual([]);
  const { backup: next } = await model.pair.backUp(backup);
  expect((await model.pair.restored(next)).equals(now)).toBe(true);
});

test('CP-13 any surviving checkpoint can be the base of an increment', async () => {
  const model = await CheckpointModel.make(13);
  const backups = [];
  await model.write(40);
  let parent: Awaited<ReturnType<typeof model.pair.backUp>>['backup'] | undefined;
  for (let index = 0; index < 3; index++) {
    parent = (await model.pair.backUp(parent)).backup;
    model.adopt(parent.checkpointId);
    backups.push(parent);
    await model.write(15);
  }
  await model.remove(backups[1]!.checkpointId);
  const now = await content(model);
  for (const base of [backups[0]!, backups[2]!]) {
    const estimate = model.expected(base.checkpointId).length * GRANULE;
    const { backup } = await model.pair.backUp(base);
    model.adopt(backup.checkpointId);
    expect(backup.dirtyBytes).toBe(estimate);
    expect((await model.pair.restored(backup)).equals(now)).toBe(true);
  }
  await expect(model.pair.start({ parent: backups[1]! })).rejects.toMatchObject({
    code: 'checkpoint-not-found',
  });
});

test('CP-08 increments stay right over a snapshot and a commit', async () => {
  const model = await CheckpointModel.make(8);
  await model.write(30);
  const { backup: full } = await model.pair.backUp();
  model.adopt(full.checkpointId);
  await model.write(10);
  const disk = new Disk(model.pair.source, model.pair.volume);
  await disk.snapshot('s');
  await model.write(10);
  expect(await model.differences()).toEqual([]);
  const then = await content(model);
  const { backup } = await model.pair.backUp(full);
  model.adopt(backup.checkpointId);
  expect((await model.pair.restored(backup)).equals(then)).toBe(true);
  const { commitId, jobId } = await disk.commit({ active: true });
  await disk.ready(jobId);
  await model.write(10);
  await disk.finish(commitId, true);
  expect((await jobEnd(disk.node, jobId)).error).toBeUndefined();
  await model.write(10);
  expect(await model.differences()).toEqual([]);
  const now = await content(model);
  const { backup: next } = await model.pair.backUp(full);
  expect((await model.pair.restored(next)).equals(now)).toBe(true);
});

describe('a checkpoint', () => {
  test('CP-12 has one before it and one after: a list is the chain, and the last one alone records', async () => {
    const model = await fourCheckpoints(12);
    const listed = await model.pair.checkpoints();
    expect(listed.map(one => one.checkpointId)).toEqual(model.ids);
    expect(listed.map(one => one.recording)).toEqual([false, false, false, true]);
    const sizes = listed.map(one => one.changedSinceBytes);
    expect(sizes).toEqual(sizes.toSorted((a, b) => b - a));
  });

  test('is renamed and described, durably, and keeps its bits', async () => {
    const model = await fourCheckpoints(21);
    const { volumeId, ids } = model;
    const update = (change: object) =>
      model.calls.updateCheckpoint({ step: newStep(), volumeId, checkpointId: ids[1]!, ...change });
    expect(await update({ name: 'before-upgrade' })).toMatchObject({
      name: 'before-upgrade',
      description: '',
    });
    expect(await update({ description: 'ä note' })).toMatchObject({
      name: 'before-upgrade',
      description: 'ä note',
    });
    expect(await update({ name: 'before-upgrade' })).toMatchObject({ description: 'ä note' });
    await expect(update({ name: 'c3' })).rejects.toMatchObject({ code: 'checkpoint-name-taken' });
    await expect(update({ name: '' })).rejects.toMatchObject({ code: 'invalid-name' });
    await expect(update({ description: 'x'.repeat(4097) })).rejects.toMatchObject({
      code: 'invalid-request',
    });
    await expect(update({ checkpointId: randomUUID(), name: 'x' })).rejects.toMatchObject({
      code: 'checkpoint-not-found',
    });
    await model.pair.source.restart();
    expect((await model.pair.checkpoints()).map(one => one.name)).toEqual([
      'c1',
      'before-upgrade',
      'c3',
      'c4',
    ]);
    expect(await model.differences()).toEqual([]);
  });

  test('that is there already is answered as before, also when the first answer got lost', async () => {
    const node = await RunningStorageNode.start();
    const { volumeId } = await createVolume(node, { sizeBytes: MiB });
    const wanted = { volumeId, checkpointId: randomUUID(), name: 'monday', description: '' };
    const { checkpoints } = node.clients;
    const first = await checkpoints.createCheckpoint({ step: newStep(), ...wanted });
    expect(await checkpoints.createCheckpoint({ step: newStep(), ...wanted })).toEqual(first);
    expect((await checkpoints.listCheckpoints({ volumeId })).checkpoints).toHaveLength(1);
  });

  test('is refused when there are as many as a volume can have', async () => {
    const node = await RunningStorageNode.start();
    const { volumeId, name } = await createVolume(node, { sizeBytes: MiB });
    const take = (text: string) =>
      node.clients.checkpoints.createCheckpoint({
        step: newStep(),
        volumeId,
        checkpointId: randomUUID(),
        name: text,
        description: 'the last one',
      });
    await node.stop();
    const file = node.path('volumes', volumeId, 'volume.json');
    const record = JSON.parse(await readFile(file, 'utf8'));
    const checkpoints = Array.from({ length: VOLUME_CHECKPOINTS_MAX - 1 }, (_, index) => ({
      checkpointId: randomUUID(),
      name: `c${index}`,
      createdAtMs: index,
      granularityBytes: GRANULE,
    }));
    await writeFile(file, JSON.stringify({ ...record, checkpoints }));
    await node.begin();
    expect(await take('one-more')).toMatchObject({ description: 'the last one', originBackupId: '' });
    await expect(take('too-many')).rejects.toMatchObject({
      code: 'checkpoint-limit',
      message: expect.stringContaining(`'${name}' has ${VOLUME_CHECKPOINTS_MAX} checkpoints`),
    });
    const listed = await node.clients.checkpoints.listCheckpoints({ volumeId });
    expect(listed.checkpoints).toHaveLength(VOLUME_CHECKPOINTS_MAX);
  });
});
