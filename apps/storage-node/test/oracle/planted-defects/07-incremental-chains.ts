// A job that has copied everything keeps the frozen bits too, so that no increment ever gets smaller: scenario
// IN-01 must notice.
import { DirtyBitmap } from '@tidemark/engine';

DirtyBitmap.prototype.abdicate = DirtyBitmap.prototype.reclaim;
