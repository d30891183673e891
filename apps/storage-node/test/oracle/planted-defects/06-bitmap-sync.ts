// A job that keeps its bitmap loses what was written meanwhile: scenario BS-01 must notice.
import { DirtyBitmap } from '@tidemark/engine';

const reclaim = DirtyBitmap.prototype.reclaim;
DirtyBitmap.prototype.reclaim = function (this: DirtyBitmap): void {
  const frozen = this.bits.clone();
  reclaim.call(this);
  this.bits.clear();
  this.bits.merge(frozen);
};
