// The disk that everybody serves, one file: the raw image of a volume of ours. The other servers open the
// very same file, so that data, layout and page cache are the same for all.

import { randomFillSync, randomUUID } from 'node:crypto';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { StorageNodeProcess } from '../process/storage-node-process.ts';
import { run } from './program.ts';

const CHUNK_BYTES = 8 * 1024 ** 2;
const BLOCK_BYTES = 4096;

export interface Disk {
  readonly volumeId: string;
  readonly sizeBytes: number;
  /** Bytes of data, from the start on; the rest is a hole. */
  readonly dataBytes: number;
  /** Its raw image. */
  readonly path: string;
  /** Our export of it. */
  readonly uri: string;
}

/** A volume of twice the bytes of `source`, filled with it over NBD. */
export async function makeDisk(
  storageNode: StorageNodeProcess,
  { source, dataBytes }: { source: string; dataBytes: number },
): Promise<Disk> {
  const volumeId = randomUUID();
  const sizeBytes = 2 * dataBytes;
  const step = { runId: randomUUID(), step: 'bench', leaseEpoch: 1 };
  const request = { step, volumeId, name: 'bench', sizeBytes, format: 'raw' };
  const { exportUri: uri } = await storageNode.clients.volumes.createVolume(request);
  const path = join(storageNode.stateDir, 'volumes', volumeId, 'disk.raw');
  await run('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', source, uri]);
  return { volumeId, sizeBytes, dataBytes, path, uri };
}

/**
 * A file of random bytes, followed by a hole of the same size. The bytes repeat, but each block begins with
 * its offset, so that one in the wrong place is noticed.
 */
export async function makeSource(path: string, dataBytes: number): Promise<void> {
  const file = await open(path, 'wx');
  const chunk = randomFillSync(Buffer.alloc(CHUNK_BYTES));
  for (let offset = 0; offset < dataBytes; offset += CHUNK_BYTES) {
    for (let at = 0; at < CHUNK_BYTES; at += BLOCK_BYTES) chunk.writeDoubleBE(offset + at, at);
    await file.write(chunk, 0, CHUNK_BYTES, offset);
  }
  await file.truncate(2 * dataBytes);
  await file.datasync();
  await file.close();
}
