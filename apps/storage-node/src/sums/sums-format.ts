// The checksums of a backup: one record for each cluster of its disk, in order, beside its image. The copier writes
// them where it reads the source; everybody behind it compares (docs/adr/0038).
//
//   00 × 16        this backup says nothing of the cluster: its parent does; without a parent it reads as zeroes
//   FF × 16        the cluster reads as zeroes
//   anything else  the first 16 bytes of SHA-256 over the cluster's bytes, of which the last one may have fewer
import { hash, webcrypto } from 'node:crypto';
import { alignUp, SECTOR_BYTES } from '@tidemark/engine';

/** Bytes of the disk that a record is about: a cluster of the image, and what a copy never does less than. */
export const CLUSTER_BYTES = 64 * 1024;
export const RECORD_BYTES = 16;
export const SUMS_ALGORITHM = 'sha256-128';

export const NOTHING_RECORD: Buffer = Buffer.alloc(RECORD_BYTES);
export const ZEROES_RECORD: Buffer = Buffer.alloc(RECORD_BYTES, 0xff);

/** Records of a disk of this size. */
export function recordsOf(sizeBytes: number): number {
  return Math.ceil(sizeBytes / CLUSTER_BYTES);
}

/** Size of the file and of its export, in bytes; what follows the last record is zero. */
export function sumsBytes(sizeBytes: number): number {
  return alignUp(recordsOf(sizeBytes) * RECORD_BYTES, SECTOR_BYTES);
}

/** The record of a cluster with these bytes; the last cluster of a disk may be short. */
export function clusterDigest(bytes: Uint8Array): Buffer {
  return shortened(hash('sha256', bytes, 'buffer'));
}

function shortened(whole: Buffer): Buffer {
  const digest = whole.subarray(0, RECORD_BYTES);
  // The two that mean something else are avoided, so that no content could ever say them.
  if (isNothing(digest) || isZeroes(digest)) digest[RECORD_BYTES - 1]! ^= 1;
  return digest;
}

export function isNothing(record: Uint8Array): boolean {
  return NOTHING_RECORD.equals(record);
}

export function isZeroes(record: Uint8Array): boolean {
  return ZEROES_RECORD.equals(record);
}

/** Whether a cluster of these bytes is what the record says; of a record that says nothing: never. */
export function agrees(record: Uint8Array, bytes: Uint8Array): boolean {
  if (isNothing(record)) return false;
  return isZeroes(record) ? isAllZero(bytes) : clusterDigest(bytes).equals(record);
}

/** As `agrees`, hashing in another thread: for those that read much beside guests. */
export async function agreesAsync(record: Uint8Array, bytes: Uint8Array): Promise<boolean> {
  if (isNothing(record) || isZeroes(record)) return agrees(record, bytes);
  return shortened(
    Buffer.from(await webcrypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>)),
  ).equals(record);
}

const ZERO_CLUSTER = Buffer.alloc(CLUSTER_BYTES);

function isAllZero(bytes: Uint8Array): boolean {
  return ZERO_CLUSTER.subarray(0, bytes.length).equals(bytes);
}
