// A merge that forgets what its target had: scenario BM-13 must notice.
import { Bitmap } from '@tidemark/engine';

const merge = Bitmap.prototype.merge;
Bitmap.prototype.merge = function (this: Bitmap, other: Bitmap): void {
  this.assertMergeable(other);
  if (other !== this) this.clear();
  merge.call(this, other);
};
