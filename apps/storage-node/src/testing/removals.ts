// What tests of removals do again and again.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { checkQcow2, FileNode, Qcow2Image } from '@tidemark/engine';
import { expect } from 'vitest';
import { type Manifest, manifestSchema } from '../repository/manifest.ts';
import { sumsDigest } from '../sums/sums-digest.ts';
import { agrees, CLUSTER_BYTES, isNothing, RECORD_BYTES, recordsOf } from '../sums/sums-format.ts';
import { newStep, type ReachedStorageNode } from './running-storage-node.ts';

/** Starts the removal and resolves when it has ended well; rejects with what it ended with otherwise. */
export async function watchRemoval(
  node: ReachedStorageNode,
  request: { repositoryId: string; backupId: string; speedBytesPerSecond?: number },
): Promise<void> {
  const { repositories } = node.clients;
  const { jobId } = await repositories.startRemoval({ step: newStep(), ...request });
  for await (const { state, error } of node.clients.watchJob({ jobId })) {
    if (state === 'concluded' && error) throw new Error(`${error.code}: ${error.message}`);
  }
}

function digestOf(sums: Buffer): Promise<string> {
  return sumsDigest({
    sizeBytes: sums.length,
    extents: (offset, length) => [{ offset, length, data: true, zero: false, depth: 1 }],
    read: (offset, buffer) => {
      sums.copy(buffer, 0, offset, offset + buffer.length);
      return undefined;
    },
  });
}

/** The image passes the check, and its own clusters are exactly those of its checksums. */
export async function expectSound(folder: string, backupId: string): Promise<Manifest> {
  const manifest = manifestSchema.parse(JSON.parse(await readFile(join(folder, `${backupId}.json`), 'utf8')));
  const file = await FileNode.open(join(folder, `${backupId}.qcow2`), { readOnly: true });
  expect(await checkQcow2(file)).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
  const image = await Qcow2Image.open(file, { readOnly: true, ignoreBacking: true });
  try {
    expect(image.sizeBytes).toBe(manifest.sizeBytes);
    const sums = await readFile(join(folder, manifest.sums!.file));
    expect(await digestOf(sums)).toBe(manifest.sums!.digest);
    for (let index = 0; index < recordsOf(manifest.sizeBytes); index++) {
      const record = sums.subarray(index * RECORD_BYTES, (index + 1) * RECORD_BYTES);
      const offset = index * CLUSTER_BYTES;
      const cluster = Buffer.alloc(Math.min(CLUSTER_BYTES, image.sizeBytes - offset));
      const [extent] = await image.extents(offset, cluster.length);
      expect([index, extent?.depth === 1]).toEqual([index, !isNothing(record)]);
      await image.read(offset, cluster);
      if (!isNothing(record)) expect([index, agrees(record, cluster)]).toEqual([index, true]);
    }
  } finally {
    await image.close();
  }
  return manifest;
}
