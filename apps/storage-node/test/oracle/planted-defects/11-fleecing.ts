// What lies outside of the bitmap is read from the live disk instead of being denied: scenario FL-04 must notice.
import { Bitmap } from '@tidemark/engine';

const { clone } = Bitmap.prototype;
Bitmap.prototype.clone = function (this: Bitmap): Bitmap {
  const copy = clone.call(this);
  copy.setAll();
  return copy;
};
