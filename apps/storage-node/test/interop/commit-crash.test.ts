// Goal: whenever a storage node is killed while images come and go, exactly one chain of them is the volume, and the
// guest finds all that it flushed (scenario CM-20). Method: a storage node in a process of its own, SIGKILL at random
// moments around the pivot of a commit, and around snapshots and commits of them.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SeededRandom } from '@tidemark/engine/testing';
import { expect, onTestFinished, test } from 'vitest';
import { StorageNodeProcess } from '../../../../scripts/process/storage-node-process.ts';
import { Disk } from '../../src/testing/snapshot-disk.ts';
import { temporaryFolder } from '../../src/testing/temporary-folder.ts';

const ROUNDS = 10;
/** The first kill comes with the decision; within this time the merged files are gone here. */
const WINDOW_MS = 20;
const SEED = 20;

async function start(stateDir: string): Promise<StorageNodeProcess> {
  const node = await StorageNodeProcess.start({ name: 'alpha', stateDir });
  onTestFinished(() => node.stop());
  return node;
}

test(`seed ${SEED}: kills around the pivot leave one chain`, { timeout: 180_000 }, async () => {
  const stateDir = await temporaryFolder();
  const random = new SeededRandom(SEED);
  let node = await start(stateDir);
  const disk = await Disk.make(node);
  const expected = Array.from({ length: 8 }, () => 0);
  const write = async (at: number, byte: number) => {
    await disk.write(at, byte);
    expected[at] = byte;
  };
  let pivoted = 0;
  for (let round = 1; round <= ROUNDS; round++) {
    await disk.snapshot(`snapshot-${round}`);
    await write(random.int(0, 7), round);
    const { commitId, jobId } = await disk.commit({ active: true });
    expect((await disk.ready(jobId)).state).toBe('ready');
    await write(random.int(0, 7), 100 + round);
    const finishing = disk.finish(commitId, true).catch(() => undefined);
    await new Promise(resolve => setTimeout(resolve, round === 1 ? 0 : random.int(0, WINDOW_MS)));
    process.kill(node.pid, 'SIGKILL');
    await finishing;
    await node.stop();
    node = await start(stateDir);
    disk.node = node;
    expect(await disk.contents(), `round ${round}`).toEqual(expected);
    const images = await readdir(join(stateDir, 'volumes', disk.volume.volumeId));
    const layers = images.filter(name => name.startsWith('layer-'));
    if (layers.length === 0) pivoted++;
    expect(await disk.names()).toEqual([]);
  }
  expect(pivoted, 'some kills came before the pivot was recorded').toBeLessThan(ROUNDS);
});

test(`seed ${SEED}: kills while snapshots are taken and merged lose nothing`, {
  timeout: 180_000,
}, async () => {
  const stateDir = await temporaryFolder();
  const random = new SeededRandom(SEED);
  let node = await start(stateDir);
  const disk = await Disk.make(node, 'qcow2');
  const { volumeId } = disk.volume;
  const expected = Array.from({ length: 8 }, () => 0);
  let interrupted = 0;
  for (let round = 1; round <= ROUNDS; round++) {
    for (const name of ['lower', 'upper']) {
      const at = random.int(0, 7);
      await disk.write(at, round);
      expected[at] = round;
      await disk.snapshot(`${name}-${round}`);
    }
    const { snapshots } = await node.clients.snapshots.listSnapshots({ volumeId });
    const topSnapshotId = snapshots.at(-1)!.snapshotId;
    const dying = (async () => {
      await disk.snapshot(`last-${round}`);
      await disk.commit({ topSnapshotId });
    })().catch(() => {
      interrupted++;
    });
    await new Promise(resolve => setTimeout(resolve, random.int(0, 4 * WINDOW_MS)));
    process.kill(node.pid, 'SIGKILL');
    await dying;
    await node.stop();
    node = await start(stateDir);
    disk.node = node;
    expect(await disk.contents(), `round ${round}`).toEqual(expected);
    const { layers } = JSON.parse(await readFile(join(stateDir, 'volumes', volumeId, 'volume.json'), 'utf8'));
    const images = await readdir(join(stateDir, 'volumes', volumeId));
    const files = images.filter(name => name.endsWith('.qcow2'));
    expect(files.length, 'files of images that are no part of the volume').toBe(layers.length);
  }
  expect(interrupted, 'some kills came in the middle').toBeGreaterThan(0);
});
