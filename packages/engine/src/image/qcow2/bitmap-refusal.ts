// Why a bitmap cannot be kept in a qcow2 image, in QEMU's words.
import { BITMAP_NAME_BYTES_MAX, QCOW2_BITMAPS_MAX } from '../../limits.ts';
import { isBitmapTooLarge } from './bitmap-data.ts';
import type { Qcow2Header } from './header.ts';

export interface WantedBitmap {
  name: string;
  granularityBytes: number;
  /** Bitmaps that the image is to keep already. */
  others: number;
}

/** Undefined where it can be kept. */
export function bitmapRefusal(
  { version, sizeBytes }: Qcow2Header,
  { name, granularityBytes, others }: WantedBitmap,
): string | undefined {
  if (version < 3) return 'Cannot store dirty bitmaps in qcow2 v2 files';
  if (Buffer.byteLength(name) > BITMAP_NAME_BYTES_MAX) {
    return `Name length exceeds maximum (${BITMAP_NAME_BYTES_MAX} characters)`;
  }
  if (isBitmapTooLarge(sizeBytes, granularityBytes)) {
    return 'Too much space will be occupied by the bitmap. Use larger granularity';
  }
  if (others >= QCOW2_BITMAPS_MAX) return 'Maximum number of persistent bitmaps is already reached';
  return undefined;
}
