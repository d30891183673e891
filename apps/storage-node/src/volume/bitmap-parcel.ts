// The bitmaps of a volume on their way to another storage node: one file of theirs after the other, in the order of
// their checkpoints, written to an export there. Checksums and owners in them say whether they arrived whole.
import { Bitmap, type BlockNode } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { CHECKPOINT_GRANULARITY_BYTES, PARCEL_WRITE_BYTES, VOLUME_CHECKPOINTS_MAX } from '../limits.ts';
import { decodeBitmap, encodeBitmap, type StoredBitmap } from './bitmap-file.ts';
import type { Volume } from './volume.ts';
import type { CheckpointRecord } from './volume-record.ts';

/** A checkpoint as it travels; 0 bytes: its bitmap cannot be trusted. */
export interface ParcelItem {
  readonly checkpoint: CheckpointRecord;
  readonly bitmapBytes: number;
}

const ALIGNMENT_BYTES = 4096;

const aligned = (bytes: number): number => Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;

/** Room for as many checkpoints as a volume may have; what is not used takes no space. */
export function parcelBytesMax(sizeBytes: number): number {
  const bits = new Bitmap(sizeBytes, CHECKPOINT_GRANULARITY_BYTES).serializedBytes;
  return VOLUME_CHECKPOINTS_MAX * (aligned(bits) + ALIGNMENT_BYTES);
}

/** To be called while nobody writes to the volume. Durable at the other end when it resolves. */
export async function sendBitmaps(volume: Volume, target: BlockNode): Promise<ParcelItem[]> {
  const { chain, record } = volume;
  const items: ParcelItem[] = [];
  let offset = 0;
  for (const checkpoint of chain.records) {
    const { checkpointId } = checkpoint;
    const { inconsistent, bits } = chain.bitmap(checkpointId);
    const stored = { bits, grownBytes: chain.grownBytes(checkpointId) };
    const file = inconsistent
      ? Buffer.alloc(0)
      : encodeBitmap({ volumeId: record.volumeId, checkpointId }, stored);
    for (let at = 0; at < file.length; at += PARCEL_WRITE_BYTES) {
      await target.write(offset + at, file.subarray(at, at + PARCEL_WRITE_BYTES));
    }
    items.push({ checkpoint, bitmapBytes: file.length });
    offset += aligned(file.length);
  }
  await target.flush();
  return items;
}

/** Calls `take` for each bitmap that can be trusted. Throws `image-invalid` where one did not arrive whole. */
export async function receiveBitmaps(
  source: BlockNode,
  { volumeId, sizeBytes, items }: { volumeId: string; sizeBytes: number; items: readonly ParcelItem[] },
  take: (checkpointId: string, bitmap: StoredBitmap) => Promise<void>,
): Promise<void> {
  let offset = 0;
  for (const { checkpoint, bitmapBytes } of items) {
    if (bitmapBytes === 0) continue;
    const { checkpointId, granularityBytes, name } = checkpoint;
    const end = offset + bitmapBytes;
    const file = Buffer.alloc(end <= source.sizeBytes ? bitmapBytes : 0);
    await source.read(offset, file);
    const bitmap = decodeBitmap(file, { volumeId, checkpointId, sizeBytes, granularityBytes });
    if (bitmap === undefined) {
      const text = `The bitmap of checkpoint '${name}' did not arrive whole. Move the volume again.`;
      throw new TidemarkError('image-invalid', text);
    }
    await take(checkpointId, bitmap);
    offset += aligned(bitmapBytes);
  }
}
