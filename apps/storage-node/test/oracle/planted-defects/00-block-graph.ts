// Whoever attaches to a block node is taken for a mere reader: scenario PM-01 must notice.
import { type AttachOptions, BlockGraph, PERMISSION } from '@tidemark/engine';

const attach = BlockGraph.prototype.attach;
BlockGraph.prototype.attach = function (this: BlockGraph, name: string, options: AttachOptions) {
  return attach.call(this, name, { ...options, uses: options.uses & ~PERMISSION.write });
};
