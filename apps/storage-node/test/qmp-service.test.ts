// Goal: operators' QMP scripts work on a running storage node and cannot take from it what it relies on.
// Method: a whole storage node, a guest over NBD, a client on the monitor's socket.
import { randomUUID } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { createQcow2, openImage } from '@tidemark/engine';
import type { Volume } from '@tidemark/proto';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { createVolume, VOLUME_BYTES, withGuest } from '../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';
import { QmpClient } from './oracle/qmp-client.ts';

let node: RunningStorageNode;
let qmp: QmpClient;
let volume: Volume;
let device: string;
const checkpointId = randomUUID();

beforeEach(async () => {
  node = await RunningStorageNode.start();
  qmp = await QmpClient.connect(node.qmpPath, () => undefined);
  onTestFinished(() => qmp.close());
  volume = await createVolume(node, { name: 'web' });
  device = `volume-${volume.volumeId}`;
  const { volumeId } = volume;
  const checkpoint = { volumeId, checkpointId, name: 'monday' };
  await node.clients.checkpoints.createCheckpoint({ step: newStep(), ...checkpoint });
});

async function refusal(command: string, args: object): Promise<string> {
  const { error } = await qmp.execute(command, args);
  expect(error).toMatchObject({ class: 'GenericError' });
  return error!.desc;
}

async function ok(command: string, args: object = {}): Promise<unknown> {
  const reply = await qmp.execute(command, args);
  expect(reply.error).toBeUndefined();
  return reply.return;
}

test('only its owner reaches the socket', async () => {
  expect((await stat(node.qmpPath)).mode & 0o777).toBe(0o600);
});

test('volumes are block nodes, checkpoints their bitmaps', async () => {
  await withGuest(volume.exportUri, guest => guest.write(0, Buffer.alloc(100_000, 7)));
  const nodes = (await ok('query-named-block-nodes')) as Record<string, unknown>[];
  expect(nodes.find(one => one['node-name'] === device)).toMatchObject({
    drv: 'anchor',
    'dirty-bitmaps': [{ name: checkpointId, recording: true, count: 131_072 }],
  });
});

test('what belongs to the storage node stays', async () => {
  const ofVolume = `Node '${device}' is busy: it belongs to volume 'web'`;
  const bitmap = { node: device, name: checkpointId };
  const ofCheckpoint = `Bitmap '${checkpointId}' is busy: it belongs to checkpoint 'monday'`;
  expect(await refusal('blockdev-del', { 'node-name': device })).toBe(ofVolume);
  expect(await refusal('block_resize', { 'node-name': device, size: VOLUME_BYTES * 2 })).toBe(ofVolume);
  for (const verb of ['remove', 'clear', 'disable', 'enable']) {
    expect(await refusal(`block-dirty-bitmap-${verb}`, bitmap)).toBe(ofCheckpoint);
  }
  const clear = { type: 'block-dirty-bitmap-clear', data: bitmap };
  expect(await refusal('transaction', { actions: [clear] })).toBe(ofCheckpoint);
  const merge = { node: device, target: checkpointId, bitmaps: [] };
  expect(await refusal('block-dirty-bitmap-merge', merge)).toBe(ofCheckpoint);
  const data = { 'job-id': 'j', device, target: 't', sync: 'incremental', bitmap: checkpointId };
  expect(await refusal('blockdev-backup', data)).toBe(ofCheckpoint);
  expect(await refusal('quit', {})).toBe('A storage node is not stopped over QMP');
});

test('nobody writes to the images of a volume past its checkpoints', async () => {
  const { volumeId } = volume;
  const snapshotId = randomUUID();
  await node.clients.snapshots.createSnapshot({ step: newStep(), volumeId, snapshotId, name: 'one' });
  await ok('nbd-server-start', { addr: { type: 'inet', data: { host: '127.0.0.1', port: '0' } } });
  for (const image of [`${device}-first`, `${device}-${snapshotId}`]) {
    const writing = { id: 'w', type: 'nbd', 'node-name': image, name: image, writable: true };
    expect(await refusal('block-export-add', writing)).toContain('write');
  }
});

test('a volume is backed up by a script, with a bitmap of its own', async () => {
  const target = node.path('copy.qcow2');
  await createQcow2(target, { sizeBytes: VOLUME_BYTES });
  await ok('block-dirty-bitmap-add', { node: device, name: 'mine' });
  const content = Buffer.alloc(300_000, 9);
  await withGuest(volume.exportUri, guest => guest.write(65_536, content));
  const merge = { node: device, target: 'mine', bitmaps: [checkpointId] };
  await ok('block-dirty-bitmap-merge', merge);
  const file = { driver: 'file', filename: target };
  await ok('blockdev-add', { driver: 'qcow2', 'node-name': 'copy', file });
  const job = { 'job-id': 'j', device, target: 'copy', sync: 'incremental', bitmap: 'mine' };
  await ok('blockdev-backup', job);
  const end = await qmp.nextEvent('the end', ({ event }) => event === 'BLOCK_JOB_COMPLETED');
  expect(end.data).toMatchObject({ len: 5 * 65_536, offset: 5 * 65_536 });
  await expect.poll(() => qmp.execute('query-jobs')).toMatchObject({ return: [] });
  await ok('blockdev-del', { 'node-name': 'copy' });
  const image = await openImage(target, { format: 'qcow2', readOnly: true });
  const copied = Buffer.alloc(content.length);
  await image.read(65_536, copied);
  await image.close();
  expect(copied.equals(content)).toBe(true);
});

test('a volume that a script uses is not deleted, and stopping ends what scripts have made', async () => {
  const path = node.path('nbd.sock');
  await ok('nbd-server-start', { addr: { type: 'unix', data: { path } } });
  await ok('block-export-add', { type: 'nbd', id: 'e', 'node-name': device });
  const { volumeId } = volume;
  const deletion = node.clients.volumes.deleteVolume({ step: newStep(), volumeId });
  await expect(deletion).rejects.toThrow(/busy/);
  await node.restart();
  const again = await QmpClient.connect(node.qmpPath, () => undefined);
  onTestFinished(() => again.close());
  expect(await again.execute('query-block-exports')).toMatchObject({ return: [] });
  await node.clients.volumes.deleteVolume({ step: newStep(), volumeId });
  const nodes = (await again.execute('query-named-block-nodes')).return;
  expect(nodes).toEqual([]);
});
