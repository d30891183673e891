// Goal: a group's volumes show no effect without its cause, on one storage node and over two, and guests wait no longer
// than the fence's limit; with the fences switched off the same test finds violations. Method: writers over NBD that
// write a number to the next volume only when it was acknowledged on the one before, and groups taken meanwhile, whose
// frozen moments are copied and read.
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { NbdClient } from '@tidemark/nbd';
import type { Volume } from '@tidemark/proto';
import { expect, onTestFinished, test } from 'vitest';
import { createRepository, readAll } from '../src/testing/backups.ts';
import { CausalWriters, violations } from '../src/testing/causal-writers.ts';
import { createVolume, jobEnd } from '../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';
import { VolumeGroup } from '../src/testing/volume-group.ts';

const CHAINS = 8;
const SIZE_BYTES = 64 * 1024;
const GROUPS = 12;
/** With the fences off: how many groups may be taken until a violation has to show. */
const GROUPS_UNFENCED_MAX = 200;
const FENCE_LIMIT_MS = 10_000;
const BETWEEN_COMMITS_MS = 20;
/** Of a write that waited for a fence: what a busy machine adds on the way to and from the guest. */
const WAY_TOLERANCE_MS = 5_000;
const TIMEOUT_MS = 300_000;

interface Place {
  readonly node: RunningStorageNode;
  readonly volume: Volume;
}

interface Scene {
  readonly places: readonly Place[];
  readonly vault: RunningStorageNode;
  readonly repositoryId: string;
  readonly writers: CausalWriters;
}

async function begin(nodes: readonly RunningStorageNode[]): Promise<Scene> {
  const places: Place[] = [];
  for (const node of nodes)
    places.push({ node, volume: await createVolume(node, { sizeBytes: SIZE_BYTES }) });
  const vault = await RunningStorageNode.start();
  const chains = [];
  for (let index = 0; index < CHAINS; index++) {
    const guests: NbdClient[] = [];
    for (const { volume } of places) guests.push(await NbdClient.connect({ uri: volume.exportUri }));
    onTestFinished(async () => {
      for (const guest of guests) await guest.disconnect().catch(() => undefined);
    });
    chains.push({ index, guests });
  }
  const writers = new CausalWriters(chains);
  writers.start();
  return { places, vault, repositoryId: await createRepository(vault), writers };
}

/** Contents of a kept group's volume as of its instant; its moment is released. */
async function copied(
  { vault, repositoryId }: Scene,
  { node, volume }: Place,
  checkpointId: string,
): Promise<Buffer> {
  const { volumeId } = volume;
  const backupId = randomUUID();
  const target = await vault.clients.repositories.prepareBackup({
    step: newStep(),
    ...{ repositoryId, backupId, volumeId, sizeBytes: SIZE_BYTES, parentBackupId: '' },
  });
  const { jobs, checkpoints } = node.clients;
  const copy = { volumeId, checkpointId, targetUri: target.uri, sumsUri: target.sumsUri };
  const { jobId } = await jobs.continueBackup({ step: newStep(), ...copy });
  expect((await jobEnd(node, jobId)).error).toBeUndefined();
  await jobs.releaseMoment({ step: newStep(), volumeId, momentId: checkpointId });
  const contents = await readAll(target.uri, SIZE_BYTES);
  await vault.clients.repositories.discardBackup({ step: newStep(), repositoryId, backupId });
  await checkpoints.deleteCheckpoint({ step: newStep(), volumeId, checkpointId });
  return contents;
}

async function takeOne(scene: Scene): Promise<string[]> {
  const group = new VolumeGroup(
    scene.places.map(place => ({ ...place, baseCheckpointId: '' })),
    { fenceLimitMs: FENCE_LIMIT_MS },
  );
  // Time for guests to get from one commit to the other, if anything lets them.
  const held = await group.take(() => group.commitInTurn(() => delay(BETWEEN_COMMITS_MS)));
  expect(held).toBe(true);
  const copies = group.parts.map((part, index) => copied(scene, scene.places[index]!, part.checkpointId));
  return violations(await Promise.all(copies), CHAINS);
}

const fenced = () => RunningStorageNode.start();
const unfenced = () => RunningStorageNode.start(undefined, {}, { fencesOff: true });

test(
  'two volumes of one storage node have one instant',
  async () => {
    const node = await fenced();
    await expectAtomic(await begin([node, node]));
  },
  TIMEOUT_MS,
);

test(
  'volumes of two storage nodes have one instant',
  async () => expectAtomic(await begin([await fenced(), await fenced()])),
  TIMEOUT_MS,
);

test(
  'without fences volumes of two storage nodes have none: the test notices',
  async () => {
    const scene = await begin([await unfenced(), await unfenced()]);
    let found: string[] = [];
    for (let count = 0; count < GROUPS_UNFENCED_MAX && found.length === 0; count++) {
      found = await takeOne(scene);
    }
    await scene.writers.stop();
    expect(found.length).toBeGreaterThan(0);
  },
  TIMEOUT_MS,
);

async function expectAtomic(scene: Scene): Promise<void> {
  for (let count = 0; count < GROUPS; count++) {
    const before = scene.writers.rounds;
    expect(await takeOne(scene)).toEqual([]);
    expect(scene.writers.rounds, 'guests go on').toBeGreaterThan(before);
  }
  await scene.writers.stop();
  expect(scene.writers.longestMs).toBeLessThan(FENCE_LIMIT_MS + WAY_TOLERANCE_MS);
}
