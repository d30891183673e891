// The last granule that a write touches is not marked where it is touched only in part: scenario INV-02 must
// notice.
import { Bitmap } from '@tidemark/engine';

const { set } = Bitmap.prototype;
Bitmap.prototype.set = function (this: Bitmap, offset, length): void {
  const end = offset + length;
  const whole = end - (end % this.granularityBytes);
  if (whole > offset) set.call(this, offset, whole - offset);
  else set.call(this, offset, length);
};
