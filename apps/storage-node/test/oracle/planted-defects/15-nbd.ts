// Bits of a bitmap are shown as one run that is too long by a granule: scenario NB-01 must notice.
import { Bitmap } from '@tidemark/engine';

const { nextZero } = Bitmap.prototype;
Bitmap.prototype.nextZero = function (this: Bitmap, from, end) {
  const zero = nextZero.call(this, from, end);
  return zero < 0 ? zero : nextZero.call(this, zero + this.granularityBytes, end);
};
