// Space that was backed up is given back, but guests' writes there are copied all the same: scenario DS-02 must
// notice.
import { BlockCopy } from '@tidemark/engine';

BlockCopy.prototype.giveUp = async () => {};
