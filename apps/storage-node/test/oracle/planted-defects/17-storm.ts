// A job that is cancelled leaves its filter in place: scenario CC-01 must notice.
import { BlockGraph } from '@tidemark/engine';

const { remove } = BlockGraph.prototype;
BlockGraph.prototype.remove = async function (this: BlockGraph, name): Promise<void> {
  if (this.get(name).driver !== 'copy-before-write') await remove.call(this, name);
};
