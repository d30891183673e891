// Goal: wherever a storage node dies in the steps of a group, its next life finds the group undone, or in doubt and
// then decided; no change since an older checkpoint is forgotten, and no staged file stays. Method: the state directory
// is copied at each durable step, as a crash would leave it, and a storage node is started on each copy.
import { randomBytes } from 'node:crypto';
import { cpSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import type { NbdClient } from '@tidemark/nbd';
import type { ByteRange } from '@tidemark/proto';
import { expect, test } from 'vitest';
import { MiB } from '../src/testing/backups.ts';
import { fillDisk } from '../src/testing/disk-trouble.ts';
import { createVolume, withGuest } from '../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';
import { temporaryFolder } from '../src/testing/temporary-folder.ts';
import { VolumeGroup } from '../src/testing/volume-group.ts';

const CLUSTER = 64 * 1024;
const SIZE_BYTES = 2 * MiB;
const TIMEOUT_MS = 600_000;

/** A state directory as of one step. */
interface Copy {
  readonly point: string;
  readonly stateDir: string;
  /** Offsets of clusters whose changes since the first checkpoint had been acknowledged. */
  readonly changed: readonly number[];
  readonly phase: string;
}

/** Plays a group over two volumes, the second one without an older checkpoint; copies the state at each step. */
async function play(keep: boolean) {
  const [stateDir, folder] = [await temporaryFolder(), await temporaryFolder()];
  const copies: Copy[] = [];
  const changed: number[] = [];
  let phase = '';
  const pass = (point: string) => {
    if (phase === '') return;
    const copy = path.join(folder, String(copies.length));
    const filter = (source: string) => !/^(lock|qmp)/.test(path.basename(source));
    cpSync(stateDir, copy, { recursive: true, filter });
    copies.push({ point: `${phase}: ${point}`, stateDir: copy, changed: [...changed], phase });
  };
  const node = await RunningStorageNode.start(stateDir, {}, { pass });
  const volumes = [
    await createVolume(node, { sizeBytes: SIZE_BYTES }),
    await createVolume(node, { sizeBytes: SIZE_BYTES }),
  ];
  const [volume] = volumes as [(typeof volumes)[0]];
  const first = new VolumeGroup([{ node, volume }]);
  await first.take();
  const write = async (guest: NbdClient, cluster: number) => {
    await guest.write(cluster * CLUSTER, randomBytes(4096));
    changed.push(cluster * CLUSTER);
  };
  const group = new VolumeGroup(volumes.map(each => ({ node, volume: each, baseCheckpointId: '' })));
  await withGuest(volume.exportUri, async guest => {
    await write(guest, 0);
    await node.clients.checkpoints.listCheckpoints(volume);
    const steps = ['prepare', 'fence', 'commit', 'release'] as const;
    const held: Promise<void>[] = [];
    for (const [index, step] of steps.entries()) {
      phase = step;
      if (step === 'commit') held.push(write(guest, 10));
      await group[step]();
      phase = `after ${step}`;
      if (step !== 'fence' && step !== 'commit') await write(guest, 1 + index);
    }
    await Promise.all(held);
    await write(guest, 20);
    phase = 'decide';
    await group.decide(keep);
    phase = '';
  });
  await node.stop();
  return { copies, volumes, group, first };
}

async function changesSince(node: RunningStorageNode, volumeId: string, sinceCheckpointId: string) {
  const ranges: ByteRange[] = [];
  const request = { volumeId, sinceCheckpointId };
  for await (const part of node.clients.listChangedBlocks(request)) ranges.push(...part.ranges);
  return ranges;
}

const covers = (ranges: readonly ByteRange[], at: number) =>
  ranges.some(({ offset, length }) => offset <= at && at < offset + length);

test.each([true, false])(
  'a crash at any step, keep: %s',
  async keep => {
    const { copies, volumes, group, first } = await play(keep);
    const doubts: number[] = [];
    for (const [index, copy] of copies.entries()) {
      const { point, phase } = copy;
      const node = await RunningStorageNode.start(copy.stateDir);
      const { groups } = await node.clients.groups.listGroups({});
      const wasKept = phase === 'decide' && keep && groups.length === 0;
      const mayDoubt = ['release', 'after release', 'decide'].includes(phase);
      if (groups.length > 0) {
        doubts.push(index);
        expect(mayDoubt, point).toBe(true);
        expect(groups, point).toMatchObject([{ groupId: group.groupId, state: 'released', inDoubt: true }]);
      } else expect(phase, point).not.toBe('after release');
      const again = new VolumeGroup([]);
      const decide = (choice: boolean) =>
        node.clients.groups.decideGroup({ step: again.step('decide'), groupId: group.groupId, keep: choice });
      const keepNow = wasKept || (groups.length > 0 && index % 2 === 0);
      await decide(keepNow);
      await decide(keepNow);
      expect((await node.clients.groups.listGroups({})).groups, point).toEqual([]);
      for (const [which, { volumeId }] of volumes.entries()) {
        const { checkpoints } = await node.clients.checkpoints.listCheckpoints({ volumeId });
        const older = which === 0 ? [first.parts[0]!.checkpointId] : [];
        const kept = keepNow ? [group.parts[which]!.checkpointId] : [];
        expect(
          checkpoints.map(one => one.checkpointId),
          point,
        ).toEqual([...older, ...kept]);
        expect(
          checkpoints.some(one => one.inconsistent),
          point,
        ).toBe(false);
        const files = await readdir(node.path('volumes', volumeId, 'bitmaps'));
        expect(files.sort(), point).toEqual([...older, ...kept].sort());
      }
      expect(await readdir(node.path('scratch')).catch(() => []), point).toEqual([]);
      const since = first.parts[0]!.checkpointId;
      const ranges = await changesSince(node, volumes[0]!.volumeId, since);
      expect(
        copy.changed.filter(at => !covers(ranges, at)),
        `forgotten at ${point}`,
      ).toEqual([]);
      const next = new VolumeGroup(volumes.map(volume => ({ node, volume })));
      expect(await next.take(), point).toBe(true);
      await node.stop();
    }
    // Each of the steps was met, and those in doubt begin and end with one file's rename: before that is told, steps of
    // other files may be.
    const indexOf = (point: string) => copies.findIndex(copy => copy.point === point);
    const [from, until] = [doubts[0]!, doubts.at(-1)! + 1];
    for (const [first, phase] of [[from, 'release'] as const, [until, 'decide'] as const]) {
      expect(first).toBeGreaterThan(indexOf(`${phase}: write groups/*.json synced`));
      expect(first).toBeLessThanOrEqual(indexOf(`${phase}: write groups/*.json renamed`));
    }
    expect(doubts.length).toBe(until - from);
    const met = new Set(copies.map(({ phase }) => phase));
    expect([...met]).toEqual(expect.arrayContaining(['prepare', 'fence', 'commit', 'release', 'decide']));
  },
  TIMEOUT_MS,
);

test('a group that a start cannot undo keeps its volumes until it is undone', {
  timeout: TIMEOUT_MS,
}, async () => {
  const { copies, volumes, group } = await play(true);
  const { stateDir } = copies.find(({ point }) => point === 'release: write groups/*.json begins')!;
  const full = await fillDisk();
  const node = await RunningStorageNode.start(stateDir);
  expect((await node.clients.groups.listGroups({})).groups).toMatchObject([{ state: 'broken' }]);
  full.mockRestore();
  const { volumeId } = volumes[1]!;
  const remove = () => node.clients.volumes.deleteVolume({ step: newStep(), volumeId });
  await expect(remove()).rejects.toMatchObject({ code: 'volume-in-group' });
  const { groupId } = group;
  await node.clients.groups.decideGroup({ step: group.step('decide'), groupId, keep: false });
  expect((await node.clients.groups.listGroups({})).groups).toEqual([]);
  await remove();
});
