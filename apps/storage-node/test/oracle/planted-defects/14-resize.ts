// A disk is resized without its users being asked: scenario RS-03 must notice.
import { BlockGraph } from '@tidemark/engine';

BlockGraph.prototype.resize = async function (
  this: BlockGraph,
  name: string,
  sizeBytes: number,
): Promise<void> {
  await this.get(name).resize(sizeBytes);
};
