// Goal: other people's tools pull a frozen moment, all of it or what changed, while the guest goes on writing, and
// nothing is left afterwards. Method: libnbd's and QEMU's tools against a whole storage node.
import { randomBytes, randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { MiB } from '../../src/testing/backups.ts';
import { createVolume, readDisk, withGuest } from '../../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../../src/testing/running-storage-node.ts';
import { temporaryFolder } from '../../src/testing/temporary-folder.ts';
import { runTool, testWith } from '../../src/testing/tools.ts';

const CLUSTER = 64 * 1024;

interface MapEntry {
  offset: number;
  length: number;
  type: number;
}

async function map(uri: string, context: string): Promise<MapEntry[]> {
  return JSON.parse(await runTool('nbdinfo', '--json', `--map=${context}`, uri)) as MapEntry[];
}

testWith(['nbdcopy', 'nbdinfo', 'qemu-img'], 'an export is copied whole while the guest writes', async () => {
  const node = await RunningStorageNode.start();
  const { volumeId, exportUri } = await createVolume(node);
  const { checkpoints, jobs } = node.clients;
  const base = randomUUID();
  const write = (offset: number, bytes: number) =>
    withGuest(exportUri, guest => guest.write(offset, randomBytes(bytes)));
  await write(0, 4 * MiB);
  await checkpoints.createCheckpoint({ step: newStep(), volumeId, checkpointId: base, name: 'base' });
  await write(1 * MiB, 2 * CLUSTER);
  const before = await readDisk(exportUri);
  const [exportId, checkpointId] = [randomUUID(), randomUUID()];
  const wanted = { volumeId, exportId, checkpointId, checkpointName: 'pulled' };
  const started = await jobs.startExport({ step: newStep(), ...wanted });
  expect(await jobs.startExport({ step: newStep(), ...wanted })).toEqual(started);
  expect(started.contexts).toEqual([`qemu:dirty-bitmap:${base}`]);
  await write(0, 8 * MiB);

  const folder = await temporaryFolder();
  const copy = join(folder, 'copy.raw');
  const guestGoesOn = write(2 * MiB, 4 * MiB);
  await runTool('nbdcopy', started.uri, copy);
  await guestGoesOn;
  expect((await readFile(copy)).equals(before)).toBe(true);
  await runTool('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', copy, started.uri);
  const dirty = (await map(started.uri, started.contexts[0]!)).filter(({ type }) => type === 1);
  expect(dirty).toMatchObject([{ offset: 1 * MiB, length: 2 * CLUSTER }]);
  const holes = (await map(started.uri, 'base:allocation')).filter(({ type }) => type === 3);
  expect(holes.at(-1)).toMatchObject({ offset: 4 * MiB, length: 12 * MiB });
  const listed = await runTool('nbdinfo', '--list', exportUri.replace(/[^/]*$/, ''));
  expect(listed).not.toContain(started.uri.split('/').at(-1));
  await expect(withGuest(started.uri, guest => guest.write(0, Buffer.alloc(512)))).rejects.toThrow();

  await jobs.releaseMoment({ step: newStep(), volumeId, momentId: exportId });
  await expect(runTool('nbdinfo', started.uri)).rejects.toThrow();
  expect(await readdir(node.path('scratch'))).toEqual([]);
  const left = await checkpoints.listCheckpoints({ volumeId });
  expect(left.checkpoints.map(({ name }) => name)).toEqual(['base', 'pulled']);
});

test('an export of what changed refuses all else, and keeps no more', async () => {
  const node = await RunningStorageNode.start();
  const { volumeId, exportUri } = await createVolume(node);
  const base = randomUUID();
  await withGuest(exportUri, guest => guest.write(0, randomBytes(8 * MiB)));
  const { checkpoints, jobs } = node.clients;
  await checkpoints.createCheckpoint({ step: newStep(), volumeId, checkpointId: base, name: 'base' });
  const bytes = randomBytes(CLUSTER);
  await withGuest(exportUri, guest => guest.write(2 * MiB, bytes));
  const exportId = randomUUID();
  const { uri } = await jobs.startExport({ step: newStep(), volumeId, exportId, baseCheckpointId: base });
  await withGuest(exportUri, guest => guest.write(0, randomBytes(8 * MiB)));
  const [moment] = (await jobs.listMoments({})).moments;
  expect(moment!.scratchBytes).toBeLessThan(MiB);
  const read = (offset: number) =>
    withGuest(uri, async client => {
      const buffer = Buffer.alloc(CLUSTER);
      await client.read(offset, buffer);
      return buffer;
    });
  expect((await read(2 * MiB)).equals(bytes)).toBe(true);
  await expect(read(0)).rejects.toThrow();
});
