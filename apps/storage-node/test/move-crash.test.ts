// Goal: wherever either storage node dies in a move, both start again, at most one of them serves the volume, nothing
// but the volume is on a disk, and the move can be undone or finished with every byte. Method: both state directories
// are copied at each durable step of either, as a crash would leave them, and storage nodes are started on the copies.
import { randomBytes } from 'node:crypto';
import { cpSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { MiB } from '../src/testing/backups.ts';
import { createVolume, readDisk, withGuest } from '../src/testing/live-volume.ts';
import { RunningStorageNode } from '../src/testing/running-storage-node.ts';
import { temporaryFolder } from '../src/testing/temporary-folder.ts';
import { VolumeMove } from '../src/testing/volume-move.ts';

const SIZE_BYTES = 2 * MiB;
const TIMEOUT_MS = 600_000;
const SIDES = ['source', 'target'] as const;
type Side = (typeof SIDES)[number];

/** The state directories as of one step of one side. */
interface Copy {
  readonly at: string;
  readonly stateDirs: Record<Side, string>;
}

function copyOf(stateDir: string, to: string): void {
  const filter = (source: string) => !/^(lock|qmp)/.test(path.basename(source));
  cpSync(stateDir, to, { recursive: true, filter });
}

/** Moves a volume with two checkpoints, and copies both states at each durable step of either side. */
async function play() {
  const folder = await temporaryFolder();
  const stateDirs = { source: path.join(folder, 'source'), target: path.join(folder, 'target') };
  const copies: Copy[] = [];
  let phase = '';
  const take = (side: Side) => (point: string) => {
    // What only begins, or answers, has changed nothing on the disk since the point before.
    if (phase === '' || /^call | begins$/.test(point)) return;
    const to = (which: Side) => path.join(folder, 'copies', String(copies.length), which);
    for (const which of SIDES) copyOf(stateDirs[which], to(which));
    copies.push({
      at: `${phase}: ${side}: ${point}`,
      stateDirs: { source: to('source'), target: to('target') },
    });
  };
  const start = (side: Side) => RunningStorageNode.start(stateDirs[side], {}, { pass: take(side) });
  const [source, target] = [await start('source'), await start('target')];
  const move = new VolumeMove(source, target, await createVolume(source, { sizeBytes: SIZE_BYTES }));
  const content = randomBytes(SIZE_BYTES);
  await withGuest(move.volume.exportUri, guest => guest.write(0, content));
  const since = await move.addCheckpoint(source, 'first');
  await withGuest(move.volume.exportUri, guest => guest.write(MiB, content.subarray(MiB, MiB + 4096)));
  await move.addCheckpoint(source, 'second');
  const during = async <T>(step: string, action: () => Promise<T>): Promise<T> => {
    phase = step;
    return action().finally(() => {
      phase = '';
    });
  };
  await during('prepare', () => move.prepare());
  await during('start', () => move.start());
  const sealed = await during('seal', () => move.seal());
  await during('accept', () => move.accept(sealed));
  await during('open', () => move.open());
  await during('leave', () => move.leave(source));
  for (const node of [source, target]) await node.stop();
  return { copies, move, sealed, content, since };
}

/** Of the volume there; empty: it is not there, and nothing of it. */
async function stateOn(node: RunningStorageNode, volumeId: string, at: string): Promise<string> {
  const { volumes } = await node.clients.volumes.listVolumes({});
  const volume = volumes.find(one => one.volumeId === volumeId);
  if (volume === undefined) {
    expect(await readdir(node.path('volumes')).catch(() => []), at).toEqual([]);
    return '';
  }
  const names = await readdir(node.path('volumes', volumeId));
  expect(names.sort(), at).toEqual(['bitmaps', 'disk.raw', 'intents', 'volume.json']);
  expect(
    volume.checkpoints.map(({ inconsistent }) => inconsistent),
    at,
  ).toEqual([false, false]);
  return volume.state;
}

test('a crash of either side at any step of a move leaves a volume that one of them serves', {
  timeout: TIMEOUT_MS,
}, async () => {
  const { copies, move, sealed, content, since } = await play();
  const { volumeId } = move;
  const seen = new Set<string>();
  for (const { at, stateDirs } of copies) {
    const source = await RunningStorageNode.start(stateDirs.source);
    const target = await RunningStorageNode.start(stateDirs.target);
    const states = [await stateOn(source, volumeId, at), await stateOn(target, volumeId, at)];
    seen.add(states.join('/'));
    expect(states.filter(state => state === 'ready').length, at).toBeLessThanOrEqual(1);
    const again = new VolumeMove(source, target, move.volume, move.runId);
    // As its run goes on: with the target's volume where that is complete, with the source's where it is not.
    const isThere = states[1] === 'arrived' || states[1] === 'ready';
    if (isThere) {
      await again.accept(sealed);
      await again.open();
      await again.leave(source);
    } else {
      await again.unseal();
    }
    const owner = isThere ? target : source;
    const { exportUri } = await owner.clients.volumes.getVolume({ volumeId });
    expect((await readDisk(exportUri)).equals(content), at).toBe(true);
    expect(await again.changed(owner, since), at).toContain(MiB / (64 * 1024));
    await withGuest(exportUri, guest => guest.write(0, randomBytes(4096)));
    if (isThere) expect(await stateOn(source, volumeId, at), at).toBe('');
    for (const node of [source, target]) await node.stop();
  }
  // Every state that there is between the steps was seen, and no other.
  expect([...seen].sort()).toEqual(['/ready', 'ready/', 'sealed/', 'sealed/arrived', 'sealed/ready']);
});
