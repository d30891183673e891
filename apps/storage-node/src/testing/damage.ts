// What tests of damage do to a repository's files, and how they send checksums as a copier does.
import { open } from 'node:fs/promises';
import { NbdClient } from '@tidemark/nbd';
import { CLUSTER_BYTES, clusterDigest, recordsOf, ZEROES_RECORD } from '../sums/sums-format.ts';
import { SumsWriter } from '../sums/sums-writer.ts';
import type { Written } from './backups.ts';

/** Changes a byte of a file. */
export async function flipByte(path: string, offset: number): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, offset);
    byte[0]! ^= 0x40;
    await file.write(byte, 0, 1, offset);
  } finally {
    await file.close();
  }
}

/** Overwrites bytes of a file. */
export async function overwrite(path: string, offset: number, bytes: Buffer): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.write(bytes, 0, bytes.length, offset);
  } finally {
    await file.close();
  }
}

/** Where the data of a cluster lies in an image file; 0: nowhere. Offsets are read as the format says. */
export async function placesOf(
  path: string,
  guestOffset: number,
): Promise<{ l2Entry: number; data: number }> {
  const file = await open(path, 'r');
  try {
    const number = async (offset: number) => {
      const bytes = Buffer.alloc(8);
      await file.read(bytes, 0, 8, offset);
      return Number(bytes.readBigUInt64BE() & 0x00ff_ffff_ffff_fe00n);
    };
    const cluster = Math.floor(guestOffset / CLUSTER_BYTES);
    const perTable = CLUSTER_BYTES / 8;
    const l1 = await number(40);
    const l2 = await number(l1 + Math.floor(cluster / perTable) * 8);
    const l2Entry = l2 + (cluster % perTable) * 8;
    return { l2Entry, data: await number(l2Entry) };
  } finally {
    await file.close();
  }
}

/** Writes whole clusters and their checksums to a prepared backup; `zeroes` as such. */
export async function copyWithSums(
  endpoint: { uri: string; sumsUri: string; sizeBytes: number },
  options: { data?: readonly Written[]; zeroes?: readonly { offset: number; length: number }[] },
): Promise<void> {
  const target = await NbdClient.connect({ uri: endpoint.uri });
  const sums = await NbdClient.connect({ uri: endpoint.sumsUri });
  try {
    const writer = new SumsWriter({
      write: (offset, buffer) => sums.write(offset, buffer),
      flush: () => sums.flush(),
    });
    for (const { offset, bytes } of options.data ?? []) {
      await target.write(offset, bytes);
      for (let at = 0; at < bytes.length; at += CLUSTER_BYTES) {
        const record = clusterDigest(bytes.subarray(at, at + CLUSTER_BYTES));
        await writer.set((offset + at) / CLUSTER_BYTES, record);
      }
    }
    for (const { offset, length } of options.zeroes ?? []) {
      await target.writeZeroes(offset, length, { mayUnmap: true });
      await writer.set(offset / CLUSTER_BYTES, ZEROES_RECORD, recordsOf(length));
    }
    await writer.flush();
    await target.flush();
  } finally {
    await target.disconnect();
    await sums.disconnect();
  }
}
