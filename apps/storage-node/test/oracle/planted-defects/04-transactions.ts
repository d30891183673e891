// A bitmap that an aborted transaction had reserved stays reserved: scenario TX-05 must notice.
import { DirtyBitmap } from '@tidemark/engine';

const setBusy = DirtyBitmap.prototype.setBusy;
DirtyBitmap.prototype.setBusy = function (this: DirtyBitmap, busy: boolean): void {
  if (busy) setBusy.call(this, busy);
};
