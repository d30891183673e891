// Goal: a storage node removes at its start what a crash left half made or half removed, and nothing else: a volume
// whose record is lost keeps its images. Method: a whole storage node, whose files are changed while it is stopped.
import { randomBytes } from 'node:crypto';
import { access, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createVolume, readDisk, withGuest } from '../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';

const isThere = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );

async function written(format: string) {
  const node = await RunningStorageNode.start();
  const volume = await createVolume(node, { format });
  const bytes = randomBytes(65_536);
  await withGuest(volume.exportUri, guest => guest.write(0, bytes));
  const { volumeId } = volume;
  const at = (...names: string[]) => node.path('volumes', volumeId, ...names);
  return { node, volume, volumeId, bytes, at };
}

it.each(['raw', 'qcow2'])('keeps the %s image of a volume whose record is lost', async format => {
  const { node, volume, volumeId, bytes, at } = await written(format);
  await node.stop();
  const record = await readFile(at('volume.json'));
  await rm(at('volume.json'));
  await node.begin();
  expect((await node.clients.volumes.listVolumes({})).volumes).toEqual([]);
  expect(await isThere(at(`disk.${format}`))).toBe(true);
  const again = { step: newStep(), volumeId, name: 'other', sizeBytes: volume.sizeBytes, format };
  await expect(node.clients.volumes.createVolume(again)).rejects.toMatchObject({ code: 'volume-name-taken' });
  await node.stop();
  await writeFile(at('volume.json'), record);
  await node.begin();
  const { exportUri } = await node.clients.volumes.getVolume({ volumeId });
  expect((await readDisk(exportUri)).subarray(0, bytes.length).equals(bytes)).toBe(true);
});

it('deletes a volume whose record is lost when it is told to, and its id is free then', async () => {
  const { node, volume, volumeId, at } = await written('raw');
  await node.stop();
  await rm(at('volume.json'));
  await node.begin();
  await node.clients.volumes.deleteVolume({ step: newStep(), volumeId });
  expect(await isThere(at())).toBe(false);
  const { name, sizeBytes, format } = volume;
  await node.clients.volumes.createVolume({ step: newStep(), volumeId, name, sizeBytes, format });
});

it('does not overwrite a volume whose record is damaged', async () => {
  const { node, volume, volumeId, at } = await written('raw');
  await node.stop();
  await writeFile(at('volume.json'), '{');
  await node.begin();
  const again = { step: newStep(), volumeId, name: 'other', sizeBytes: volume.sizeBytes, format: 'raw' };
  await expect(node.clients.volumes.createVolume(again)).rejects.toMatchObject({ code: 'volume-name-taken' });
  expect(await isThere(at('disk.raw'))).toBe(true);
});

it('removes what a crash left of making and of removing a volume, and keeps one that was just made', async () => {
  const { node, volumeId, at } = await written('qcow2');
  const made = await createVolume(node);
  await node.stop();
  // The removal had begun.
  await rename(at('volume.json'), at('unfinished.json'));
  // The making had not got far.
  await mkdir(node.path('volumes', 'early', 'bitmaps'), { recursive: true });
  await mkdir(node.path('volumes', 'late'));
  await writeFile(node.path('volumes', 'late', 'unfinished.json'), '{"version":1}');
  await writeFile(node.path('volumes', 'late', 'disk.raw'), Buffer.alloc(512));
  await writeFile(node.path('volumes', made.volumeId, 'unfinished.json'), '{"version":1}');
  await node.begin();
  for (const id of [volumeId, 'early', 'late']) expect(await isThere(node.path('volumes', id))).toBe(false);
  await node.restart();
  const { volumes } = await node.clients.volumes.listVolumes({});
  expect(volumes.map(volume => volume.volumeId)).toEqual([made.volumeId]);
  expect(await isThere(node.path('volumes', made.volumeId, 'unfinished.json'))).toBe(false);
});
