// What was written while a bitmap was frozen is forgotten when its job succeeds: scenario INV-02 must notice.
import { DirtyBitmap } from '@tidemark/engine';

const { abdicate } = DirtyBitmap.prototype;
DirtyBitmap.prototype.abdicate = function (this: DirtyBitmap): void {
  abdicate.call(this);
  this.bits.clear();
};
