// Bitmaps are stored without their bits: scenario BR-04 must notice.
import { type DirtyBitmap, Qcow2Image } from '@tidemark/engine';

const store = Qcow2Image.prototype.storeBitmaps;

Qcow2Image.prototype.storeBitmaps = function (
  this: Qcow2Image,
  bitmaps: readonly DirtyBitmap[],
): Promise<void> {
  for (const bitmap of bitmaps) bitmap.bits.reset(0, bitmap.bits.sizeBytes);
  return store.call(this, bitmaps);
};
