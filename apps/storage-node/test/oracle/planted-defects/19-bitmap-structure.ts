// Bits past the end of a shrunk bitmap come back when it grows: scenario HB-03 must notice.
import { Bitmap, type DirtyArea } from '@tidemark/engine';

const lost = new WeakMap<Bitmap, DirtyArea[]>();
const truncate = Bitmap.prototype.truncate;
Bitmap.prototype.truncate = function (this: Bitmap, sizeBytes: number): void {
  const before = [...this.dirtyAreas(), ...(lost.get(this) ?? [])];
  truncate.call(this, sizeBytes);
  lost.set(
    this,
    before.filter(area => area.offset + area.length > sizeBytes),
  );
  for (const area of before) {
    if (area.offset < sizeBytes) this.set(area.offset, Math.min(area.length, sizeBytes - area.offset));
  }
};
