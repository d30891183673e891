// Goal: a backup is published only when its image holds what its checksums say, and is read with them afterwards.
// Method: a whole storage node; the copier's part is played over NBD, right and wrong.
import { randomBytes, randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { NbdClient } from '@tidemark/nbd';
import type { BackupEndpoint } from '@tidemark/proto';
import { describe, expect, test } from 'vitest';
import { CLUSTER_BYTES, clusterDigest, RECORD_BYTES, ZEROES_RECORD } from '../src/sums/sums-format.ts';
import { filesOf as files, imageOf, makeChain, prepare, publish } from '../src/testing/backup-chain.ts';
import { createRepository, MiB, planOf, readAll, writeOver } from '../src/testing/backups.ts';
import { copyWithSums, flipByte, overwrite, placesOf } from '../src/testing/damage.ts';
import { jobEnd } from '../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';

const CLUSTER = CLUSTER_BYTES;

async function recordsAt(endpoint: BackupEndpoint, first: number, count: number): Promise<Buffer[]> {
  const client = await NbdClient.connect({ uri: endpoint.sumsUri });
  try {
    const bytes = Buffer.alloc(count * RECORD_BYTES);
    await client.read(first * RECORD_BYTES, bytes);
    return Array.from({ length: count }, (_, index) => bytes.subarray(index * 16, (index + 1) * 16));
  } finally {
    await client.disconnect();
  }
}

/** The end of a check's job. */
async function checked(
  node: RunningStorageNode,
  copy: { repositoryId: string; backupId: string; targetUri: string },
) {
  const { jobId } = await node.clients.repositories.startCheck({ step: newStep(), ...copy });
  return jobEnd(node, jobId);
}

describe('publication', () => {
  test('checksums lie beside image and manifest, and are named there', async () => {
    const node = await RunningStorageNode.start();
    const { repositoryId, full, increment, stored } = await makeChain(node);
    expect(stored).toMatchObject({ hasSums: true, compression: 'none', hidden: false });
    const names = [full, increment].flatMap(({ backupId: id }) => [
      `${id}.json`,
      `${id}.qcow2`,
      `${id}.sums`,
    ]);
    expect(await files(node, repositoryId)).toEqual(names.sort());
    const folder = node.path('repositories', repositoryId, 'backups');
    const manifest = JSON.parse(await readFile(`${folder}/${full.backupId}.json`, 'utf8'));
    expect(manifest).toMatchObject({
      version: 2,
      sums: { file: `${full.backupId}.sums`, clusterBytes: 65536 },
    });
  });

  interface Fault {
    data?: number;
    record?: number;
    stray?: number;
    zeroRecord?: number;
  }
  test.each<[string, Fault, string]>([
    ['a cluster that was changed on its way', { data: 3 }, `at ${3 * CLUSTER}, differs`],
    ['a cluster that never came', { record: 6 }, `at ${6 * CLUSTER}, missing`],
    ['a cluster that nobody has a checksum of', { stray: 9 }, `at ${9 * CLUSTER}, unexpected`],
    ['zeroes that came as data', { zeroRecord: 4, stray: 4 }, `at ${4 * CLUSTER}, differs`],
  ])('%s is refused, and nothing is listed', async (_, fault, message) => {
    const node = await RunningStorageNode.start();
    const repositoryId = await createRepository(node);
    const plan = planOf(repositoryId, randomUUID());
    const endpoint = await prepare(node, plan);
    await copyWithSums(endpoint, { data: [{ offset: 0, bytes: randomBytes(CLUSTER) }] });
    const target: { offset: number; bytes: Buffer }[] = [];
    const sums: { offset: number; bytes: Buffer }[] = [];
    const bytes = randomBytes(CLUSTER);
    const record = (cluster: number, value: Buffer) => sums.push({ offset: cluster * 16, bytes: value });
    if (fault.data !== undefined) {
      record(fault.data, clusterDigest(bytes));
      const sent = Buffer.from(bytes);
      sent[77]! ^= 1;
      target.push({ offset: fault.data * CLUSTER, bytes: sent });
    }
    if (fault.record !== undefined) record(fault.record, clusterDigest(bytes));
    if (fault.stray !== undefined) target.push({ offset: fault.stray * CLUSTER, bytes });
    if (fault.zeroRecord !== undefined) record(fault.zeroRecord, ZEROES_RECORD);
    await writeOver(endpoint.uri, target);
    await writeOver(endpoint.sumsUri, sums);
    const refusal = { code: 'image-invalid', message: expect.stringContaining(message) };
    expect((await checked(node, { ...plan, targetUri: endpoint.uri })).error).toMatchObject(refusal);
    await expect(publish(node, plan)).rejects.toMatchObject(refusal);
    expect((await node.clients.repositories.listBackups({ repositoryId })).backups).toEqual([]);
    await node.clients.repositories.discardBackup({ step: newStep(), ...plan });
    expect(await files(node, repositoryId)).toEqual([]);
  });

  test('a check of its own goes before, and can be cancelled', async () => {
    const node = await RunningStorageNode.start();
    const repositoryId = await createRepository(node);
    const plan = planOf(repositoryId, randomUUID());
    const { uri: targetUri } = await prepare(node, plan);
    await writeOver(targetUri, [{ offset: 0, bytes: randomBytes(4 * MiB) }]);
    const { repositories, jobs } = node.clients;
    await expect(checked(node, { ...plan, targetUri: `${targetUri}-of-before` })).rejects.toMatchObject({
      code: 'backup-not-found',
    });
    const wanted = { ...{ step: newStep(), ...plan, targetUri }, speedBytesPerSecond: 1024 };
    const { jobId } = await repositories.startCheck(wanted);
    expect(await repositories.startCheck(wanted)).toEqual({ jobId });
    const discard = repositories.discardBackup({ step: newStep(), ...plan });
    await jobs.cancelJob({ step: newStep(), jobId });
    await discard;
    expect(await files(node, repositoryId)).toEqual([]);
    expect(await jobEnd(node, jobId)).toMatchObject({ error: { code: 'run-cancelled' } });
  });

  test('a copier that makes no checksums is told of in the manifest', async () => {
    const node = await RunningStorageNode.start();
    const repositoryId = await createRepository(node);
    const plan = planOf(repositoryId, randomUUID());
    await writeOver((await prepare(node, plan)).uri, [{ offset: 5, bytes: Buffer.from('plain') }]);
    expect(await publish(node, plan)).toMatchObject({ hasSums: false });
    expect(await files(node, repositoryId)).toEqual([`${plan.backupId}.json`, `${plan.backupId}.qcow2`]);
  });
});

describe('an open backup', () => {
  test.each(['none', 'zstd'])(
    'has the checksums of its whole chain, and reads as it was (%s)',
    async compression => {
      const node = await RunningStorageNode.start();
      const { increment, first, changed, expected } = await makeChain(node, { compression });
      const endpoint = await node.clients.repositories.openBackup({
        step: newStep(),
        ...increment,
        verified: true,
      });
      const records = await recordsAt(endpoint, 0, 17);
      expect(records[0]).toEqual(clusterDigest(first.subarray(0, CLUSTER)));
      expect(records[2]).toEqual(clusterDigest(changed));
      expect(records[5]).toEqual(ZEROES_RECORD);
      expect(records[16]).toEqual(ZEROES_RECORD);
      expect((await readAll(endpoint.uri, 4 * MiB)).equals(expected)).toBe(true);
    },
  );

  test('a flipped byte of data fails the reads of its cluster and of no other', async () => {
    const node = await RunningStorageNode.start();
    const { full, increment, expected } = await makeChain(node);
    const { data } = await placesOf(imageOf(node, full), 3 * CLUSTER);
    await flipByte(imageOf(node, full), data + 100);
    const { uri } = await node.clients.repositories.openBackup({
      step: newStep(),
      ...increment,
      verified: true,
    });
    const client = await NbdClient.connect({ uri });
    const bytes = Buffer.alloc(CLUSTER);
    await expect(client.read(3 * CLUSTER + 512, bytes.subarray(0, 512))).rejects.toMatchObject({
      errno: 'EIO',
    });
    for (const cluster of [0, 2, 4, 5]) {
      await client.read(cluster * CLUSTER, bytes);
      expect(bytes.equals(expected.subarray(cluster * CLUSTER, (cluster + 1) * CLUSTER))).toBe(true);
    }
    await client.disconnect();
  });

  test('a cluster that the map has lost is no hole, and what lies below is not taken for it', async () => {
    const node = await RunningStorageNode.start();
    const { full, increment } = await makeChain(node);
    for (const [plan, cluster] of [[full, 7] as const, [increment, 2] as const]) {
      const { l2Entry } = await placesOf(imageOf(node, plan), cluster * CLUSTER);
      await overwrite(imageOf(node, plan), l2Entry, Buffer.alloc(8));
    }
    const { uri } = await node.clients.repositories.openBackup({
      step: newStep(),
      ...increment,
      verified: true,
    });
    const client = await NbdClient.connect({ uri }, { contexts: ['base:allocation'] });
    const bytes = Buffer.alloc(CLUSTER);
    for (const cluster of [2, 7]) {
      await expect(client.read(cluster * CLUSTER, bytes)).rejects.toMatchObject({ errno: 'EIO' });
    }
    const extents = await client.blockStatus('base:allocation', 7 * CLUSTER, CLUSTER);
    expect(extents[0]).toMatchObject({ flags: 0 });
    await client.disconnect();
  });

  test('a durable one has its names over a restart until it is closed', async () => {
    const node = await RunningStorageNode.start();
    const { increment, expected } = await makeChain(node);
    const step = newStep();
    const path = (uri: string) => new URL(uri).pathname;
    const opened = await node.clients.repositories.openBackup({ step, ...increment, durable: true });
    const passing = await node.clients.repositories.openBackup({ step: newStep(), ...increment });
    await node.restart();
    const again = await node.clients.repositories.openBackup({ step, ...increment, durable: true });
    expect([path(again.uri), path(again.sumsUri)]).toEqual([path(opened.uri), path(opened.sumsUri)]);
    expect((await readAll(again.uri, 4 * MiB)).equals(expected)).toBe(true);
    const base = new URL(again.uri);
    await expect(NbdClient.connect({ uri: new URL(path(passing.uri), base).href })).rejects.toThrow();
    const { repositoryId, backupId } = increment;
    const work = await node.clients.repositories.listRepositoryWork({ repositoryId });
    expect(work.open).toEqual([{ backupId, runId: step.runId, durable: true }]);
    await node.clients.repositories.closeBackup({ step, repositoryId, backupId });
    await node.restart();
    expect((await node.clients.repositories.listRepositoryWork({ repositoryId })).open).toEqual([]);
  });
});
