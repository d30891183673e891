// A fault that is to come once comes for ever: scenario DR-05 must notice.
import { Blkdebug } from '@tidemark/engine';

const { read } = Blkdebug.prototype;
let failure: unknown;
Blkdebug.prototype.read = function (this: Blkdebug, offset, buffer) {
  if (failure !== undefined) return Promise.reject(failure);
  return read.call(this, offset, buffer)?.catch((error: unknown) => {
    failure = error;
    throw error;
  });
};
