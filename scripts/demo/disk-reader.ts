// Reads a whole disk, wherever it is: an NBD export or a plain file. Several requests at once, bounded memory.

import { type FileHandle, open } from 'node:fs/promises';
import { NbdClient } from '@tidemark/nbd';
import { REGION_BYTES, TRANSFERS_IN_FLIGHT } from './layout.ts';

export interface DiskReader {
  readonly sizeBytes: number;
  /** Fills the buffer; rejects when the disk ends before. */
  read(offset: number, buffer: Buffer): Promise<void>;
  close(): Promise<void>;
}

export async function openExport(uri: string): Promise<DiskReader> {
  const client = await NbdClient.connect({ uri }, { requestsMax: TRANSFERS_IN_FLIGHT });
  return {
    sizeBytes: client.sizeBytes,
    read: async (offset, buffer) => void (await client.read(offset, buffer)),
    close: async () => void (await client.disconnect()),
  };
}

export async function openFile(path: string): Promise<DiskReader> {
  const file = await open(path, 'r');
  const { size } = await file.stat();
  return {
    sizeBytes: size,
    read: (offset, buffer) => readFully(file, offset, buffer),
    close: () => file.close(),
  };
}

async function readFully(file: FileHandle, offset: number, buffer: Buffer): Promise<void> {
  for (let done = 0; done < buffer.length; ) {
    const { bytesRead } = await file.read(buffer, done, buffer.length - done, offset + done);
    if (bytesRead === 0)
      throw new Error(`the file ends at ${offset + done}, before ${offset + buffer.length}`);
    done += bytesRead;
  }
}

/**
 * Calls `visit` with every region of the disk, in any order, and awaits it before the buffer is used again.
 * The last region may be short.
 */
export async function scanDisk(
  reader: DiskReader,
  visit: (offset: number, bytes: Buffer) => void | Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    const buffer = Buffer.allocUnsafe(REGION_BYTES);
    for (let offset = next; offset < reader.sizeBytes; offset = next) {
      next += REGION_BYTES;
      signal?.throwIfAborted();
      const bytes = buffer.subarray(0, Math.min(REGION_BYTES, reader.sizeBytes - offset));
      await reader.read(offset, bytes);
      await visit(offset, bytes);
    }
  };
  await Promise.all(Array.from({ length: TRANSFERS_IN_FLIGHT }, lane));
}
