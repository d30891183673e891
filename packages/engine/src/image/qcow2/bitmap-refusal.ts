// Why a bitmap cannot be kept in a qcow2 image, in QEMU's words where it has them.
import { BITMAP_NAME_BYTES_MAX } from '../../limits.ts';

/** Record 0024: nothing is stored yet, so that there is always a reason. */
export function bitmapRefusal(imageVersion: number, name: string): string {
  if (imageVersion < 3) return 'Cannot store dirty bitmaps in qcow2 v2 files';
  if (Buffer.byteLength(name) > BITMAP_NAME_BYTES_MAX) {
    return `Name length exceeds maximum (${BITMAP_NAME_BYTES_MAX} characters)`;
  }
  return 'Storing dirty bitmaps in qcow2 files is not supported';
}
