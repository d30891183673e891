// Goal: a storage node's part in a group of volumes: guests' changes wait and reads go on between fence and release,
// all of it is kept or nothing is left, and every call can be repeated. Method: real guests over NBD, real gRPC.
import { randomBytes, randomUUID } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import type { NbdClient } from '@tidemark/nbd';
import { NbdClient as Guest } from '@tidemark/nbd';
import { expect, onTestFinished, test, vi } from 'vitest';
import { MiB } from '../src/testing/backups.ts';
import { BackupPair, createVolume, jobEnd, readDisk, withGuest } from '../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';
import { VolumeGroup } from '../src/testing/volume-group.ts';

const CLUSTER = 64 * 1024;
const PATIENCE = { timeout: 30_000, interval: 20 };

async function connect(uri: string): Promise<NbdClient> {
  const guest = await Guest.connect({ uri });
  onTestFinished(() => guest.disconnect().catch(() => undefined));
  return guest;
}

async function makeVolumes(count = 1) {
  const node = await RunningStorageNode.start();
  const volumes = [];
  for (let index = 0; index < count; index++) volumes.push(await createVolume(node));
  return { node, volumes };
}

async function checkpointsOf(node: RunningStorageNode, { volumeId }: { volumeId: string }) {
  return (await node.clients.checkpoints.listCheckpoints({ volumeId })).checkpoints;
}

const listGroups = async (node: RunningStorageNode) => (await node.clients.groups.listGroups({})).groups;

/** Nothing of it is there: no checkpoint, no file of one, no moment, no scratch. */
async function expectNothingLeft(node: RunningStorageNode, volume: { volumeId: string }, checkpoints = 0) {
  expect(await listGroups(node)).toEqual([]);
  expect(await checkpointsOf(node, volume)).toHaveLength(checkpoints);
  expect(await readdir(node.path('volumes', volume.volumeId, 'bitmaps'))).toHaveLength(checkpoints);
  expect((await node.clients.jobs.listMoments({})).moments).toEqual([]);
  expect(await readdir(node.path('scratch')).catch(() => [])).toEqual([]);
}

test('between fence and release changes wait and reads go on; each side of the instant is known', async () => {
  const { node, volumes } = await makeVolumes(2);
  const [one, two] = volumes as [(typeof volumes)[0], (typeof volumes)[0]];
  const first = new VolumeGroup(volumes.map(volume => ({ node, volume })));
  expect(await first.take()).toBe(true);
  const guest = await connect(one.exportUri);
  await guest.write(0, randomBytes(CLUSTER));
  const group = new VolumeGroup(volumes.map(volume => ({ node, volume })));
  await group.prepare();
  const [fenced] = await group.fence();
  const ended: string[] = [];
  const requests = Promise.all([
    guest.write(2 * MiB, randomBytes(CLUSTER)).then(() => ended.push('write')),
    guest.writeZeroes(3 * MiB, CLUSTER).then(() => ended.push('zeroes')),
    guest.trim(4 * MiB, CLUSTER).then(() => ended.push('trim')),
  ]);
  await guest.read(2 * MiB, Buffer.alloc(CLUSTER));
  const [committed] = await group.commit();
  await guest.read(2 * MiB, Buffer.alloc(CLUSTER));
  expect(ended).toEqual([]);
  const [released] = await group.release();
  await requests;
  expect(released).toMatchObject({ held: true, waits: 3, fenceId: fenced!.fenceId, fenceLimitMs: 10_000 });
  expect(released!.waitMaxMs).toBeLessThanOrEqual(released!.heldMs + 1_000);
  expect(released!.waitMaxMs).toBeGreaterThan(0);
  expect(committed!.members).toHaveLength(2);
  await group.decide(true);
  const [before, after] = await checkpointsOf(node, one);
  expect(before).toMatchObject({ changedSinceBytes: 4 * CLUSTER, recording: false });
  expect(after).toMatchObject({ changedSinceBytes: 3 * CLUSTER, recording: true });
  expect(after!.createdAtMs).toBe(committed!.members[0]!.pointInTimeMs);
  expect(await checkpointsOf(node, two)).toHaveLength(2);
  expect(await listGroups(node)).toEqual([]);
});

test('a backup of a group is copied after it was decided, and is of its instant', async () => {
  const [source, vault] = [await RunningStorageNode.start(), await RunningStorageNode.start()];
  const pair = await BackupPair.make(source, vault);
  const { volume } = pair;
  await withGuest(volume.exportUri, guest => guest.write(0, randomBytes(2 * MiB)));
  const full = await pair.backUp();
  await withGuest(volume.exportUri, guest => guest.write(MiB, randomBytes(CLUSTER)));
  const base = full.backup.checkpointId;
  const group = new VolumeGroup([{ node: source, volume, baseCheckpointId: base }]);
  await group.prepare();
  await group.fence();
  const [committed] = await group.commit();
  expect(committed!.members).toMatchObject([{ dirtyBytes: CLUSTER, grownBytes: 0 }]);
  await group.release();
  const atInstant = await readDisk(volume.exportUri);
  await withGuest(volume.exportUri, guest => guest.write(0, randomBytes(3 * MiB)));
  await group.decide(true);
  const { checkpointId } = group.parts[0]!;
  const backup = { checkpointId, backupId: randomUUID(), jobId: '', dirtyBytes: CLUSTER };
  const started = await pair.continue(backup, full.backup);
  expect((await jobEnd(source, started.jobId)).error).toBeUndefined();
  await pair.publish(backup, full.backup, started.targetUri);
  await pair.release(backup);
  expect((await pair.restored(backup)).equals(atInstant)).toBe(true);
  // What was written after the instant, and only that, is in the next increment.
  const next = await pair.backUp(backup);
  expect(next.backup.dirtyBytes).toBe(3 * MiB);
  expect((await pair.restored(next.backup)).equals(await readDisk(volume.exportUri))).toBe(true);
});

test('undone after its release, nothing is left, and no change is forgotten', async () => {
  const { node, volumes } = await makeVolumes();
  const [volume] = volumes as [(typeof volumes)[0]];
  expect(await new VolumeGroup([{ node, volume }]).take()).toBe(true);
  const guest = await connect(volume.exportUri);
  await guest.write(0, randomBytes(CLUSTER));
  const group = new VolumeGroup([{ node, volume, baseCheckpointId: '' }]);
  await group.prepare();
  await group.fence();
  await group.commit();
  await group.release();
  await guest.write(MiB, randomBytes(CLUSTER));
  await group.decide(false);
  await expectNothingLeft(node, volume, 1);
  expect(await checkpointsOf(node, volume)).toMatchObject([
    { changedSinceBytes: 2 * CLUSTER, recording: true },
  ]);
  await group.decide(false);
  await expect(group.decide(true)).rejects.toMatchObject({ code: 'group-state' });
});

test.each(['prepare', 'fence', 'commit'])('undone after %s, nothing is left', async last => {
  const { node, volumes } = await makeVolumes();
  const [volume] = volumes as [(typeof volumes)[0]];
  const group = new VolumeGroup([{ node, volume, baseCheckpointId: '' }]);
  await group.prepare();
  if (last !== 'prepare') await group.fence();
  if (last === 'commit') await group.commit();
  const guest = await connect(volume.exportUri);
  const writing = guest.write(0, randomBytes(CLUSTER));
  await group.decide(false);
  await writing;
  await expectNothingLeft(node, volume);
  expect(await new VolumeGroup([{ node, volume }]).take()).toBe(true);
});

test.each(['fence', 'commit'])(
  'a coordinator that is too slow after %s finds the fence broken, and nothing left',
  async last => {
    const { node, volumes } = await makeVolumes();
    const [volume] = volumes as [(typeof volumes)[0]];
    const guest = await connect(volume.exportUri);
    const group = new VolumeGroup([{ node, volume, baseCheckpointId: '' }], { fenceLimitMs: 1_000 });
    await group.prepare();
    await group.fence();
    if (last === 'commit') await group.commit();
    await guest.write(0, randomBytes(CLUSTER));
    await vi.waitFor(() => expectNothingLeft(node, volume), PATIENCE);
    await expect(group.commit()).rejects.toMatchObject({ code: 'group-fence-broken' });
    const [released] = await group.release();
    expect(released).toMatchObject({ held: false, waits: 1, reason: expect.stringContaining('1000 ms') });
    expect(released!.waitMaxMs).toBeGreaterThan(0);
    await group.decide(false);
    expect(await new VolumeGroup([{ node, volume }]).take()).toBe(true);
  },
);

test('what cannot be prepared is told with its volume, and leaves nothing', async () => {
  const { node, volumes } = await makeVolumes(2);
  const [one, two] = volumes as [(typeof volumes)[0], (typeof volumes)[0]];
  const group = new VolumeGroup([
    { node, volume: one, baseCheckpointId: '' },
    { node, volume: two, baseCheckpointId: randomUUID() },
  ]);
  const refused = group.prepare();
  await expect(refused).rejects.toMatchObject({ code: 'checkpoint-not-found' });
  await expect(refused).rejects.toThrow(two.name);
  await expectNothingLeft(node, one);
  await expectNothingLeft(node, two);
  const nowhere = new VolumeGroup([{ node, volume: { volumeId: randomUUID() } }]);
  await expect(nowhere.prepare()).rejects.toMatchObject({ code: 'volume-not-found' });
  expect(await new VolumeGroup([{ node, volume: one }]).take()).toBe(true);
});

test('repeated calls are answered as before, and older attempts refused', async () => {
  const { node, volumes } = await makeVolumes();
  const group = new VolumeGroup([{ node, volume: volumes[0]!, baseCheckpointId: '' }]);
  await group.prepare();
  await group.prepare();
  const fenced = await group.fence();
  group.leaseEpoch = 2;
  expect(await group.fence()).toEqual(fenced);
  const committed = await group.commit();
  expect(await group.commit()).toEqual(committed);
  group.leaseEpoch = 1;
  await expect(group.release()).rejects.toMatchObject({ code: 'run-superseded' });
  await expect(group.decide(false)).rejects.toMatchObject({ code: 'run-superseded' });
  group.leaseEpoch = 2;
  const released = await group.release();
  expect(released).toMatchObject([{ held: true }]);
  expect(await group.release()).toEqual(released);
  expect(await group.commit()).toEqual(committed);
  await node.restart();
  expect(await group.release()).toEqual(released);
  await group.decide(true);
  await group.decide(true);
  expect(await group.release()).toEqual(released);
  await expect(group.decide(false)).rejects.toMatchObject({ code: 'group-state' });
  const { clients } = node;
  const stranger = { step: newStep(), groupId: group.groupId };
  await expect(clients.groups.commitGroup(stranger)).rejects.toMatchObject({ code: 'group-state' });
  const unknown = { step: newStep(), groupId: randomUUID() };
  await expect(clients.groups.fenceGroup(unknown)).rejects.toMatchObject({ code: 'group-not-found' });
});

test('a group that is undone before it was heard of cannot be prepared any more', async () => {
  const { node, volumes } = await makeVolumes();
  const group = new VolumeGroup([{ node, volume: volumes[0]! }]);
  await group.decide(false);
  await group.decide(false);
  await node.restart();
  await expect(group.prepare()).rejects.toMatchObject({ code: 'group-state' });
  await expectNothingLeft(node, volumes[0]!);
});

test('in doubt, over a restart too, its volumes keep it; what does not disturb it goes on', async () => {
  const [source, vault] = [await RunningStorageNode.start(), await RunningStorageNode.start()];
  const pair = await BackupPair.make(source, vault);
  const { volume } = pair;
  const { volumeId } = volume;
  const group = new VolumeGroup([{ node: source, volume }]);
  const { checkpointId } = group.parts[0]!;
  await group.prepare();
  await group.fence();
  await group.commit();
  await group.release();
  for (const life of ['first', 'second']) {
    expect(await listGroups(source), life).toMatchObject([
      { groupId: group.groupId, state: 'released', inDoubt: true, runId: group.runId },
    ]);
    const { checkpoints, volumes } = source.clients;
    const refusal = { code: 'volume-in-group', message: expect.stringContaining("'nightly'") };
    const step = newStep();
    await expect(checkpoints.deleteCheckpoint({ step, volumeId, checkpointId })).rejects.toMatchObject(
      refusal,
    );
    await expect(volumes.deleteVolume({ step, volumeId })).rejects.toMatchObject(refusal);
    const other = new VolumeGroup([{ node: source, volume }]);
    await expect(other.prepare()).rejects.toMatchObject(refusal);
    if (life === 'first') await source.restart();
  }
  const { exportUri } = await source.clients.volumes.getVolume({ volumeId });
  await withGuest(exportUri, guest => guest.write(0, randomBytes(MiB)));
  const { backup } = await pair.backUp();
  expect((await pair.restored(backup)).equals(await readDisk(exportUri))).toBe(true);
  await group.decide(false);
  expect((await pair.checkpoints()).map(one => one.checkpointId)).toEqual([backup.checkpointId]);
  await withGuest(exportUri, guest => guest.write(2 * MiB, randomBytes(CLUSTER)));
  const next = await pair.backUp(backup);
  expect((await pair.restored(next.backup)).equals(await readDisk(exportUri))).toBe(true);
});

test('a storage node that stops in between undoes what was not released', async () => {
  const { node, volumes } = await makeVolumes();
  const [volume] = volumes as [(typeof volumes)[0]];
  const group = new VolumeGroup([{ node, volume, baseCheckpointId: '' }]);
  await group.prepare();
  await group.fence();
  await group.commit();
  await node.restart();
  await expectNothingLeft(node, volume);
  expect(await group.release()).toMatchObject([{ held: false, reason: expect.stringContaining('stopped') }]);
  await group.decide(false);
  expect(await new VolumeGroup([{ node, volume }]).take()).toBe(true);
});
