// An unknown block node is refused without its name: scenario EC-04 must notice.
import { BlockGraph, EngineError } from '@tidemark/engine';

BlockGraph.prototype.has = function (this: BlockGraph, name: string): boolean {
  if (this.find(name) !== undefined) return true;
  throw new EngineError('not-found', 'No such block node');
};
