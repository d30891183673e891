// The bitmaps as they will be after the actions prepared so far: later actions of a transaction see what
// earlier ones add, and nobody else does. What earlier ones remove or use stays, as busy.
import type { DirtyBitmap } from '../bitmap/dirty-bitmap.ts';
import { EngineError } from '../errors.ts';
import type { GraphNode } from '../graph/graph-node.ts';

export class StagedBitmaps {
  readonly #added = new Map<GraphNode, Map<string, DirtyBitmap>>();

  find(node: GraphNode, name: string): DirtyBitmap | undefined {
    return this.#added.get(node)?.get(name) ?? node.bitmaps.find(name);
  }

  /** Throws kind `not-found`. */
  get(node: GraphNode, name: string): DirtyBitmap {
    const bitmap = this.find(node, name);
    if (bitmap !== undefined) return bitmap;
    throw new EngineError('not-found', `Dirty bitmap '${name}' not found`, { node: node.name });
  }

  /** Throws kind `exists`. */
  add(node: GraphNode, name: string, bitmap: DirtyBitmap): void {
    if (this.find(node, name) !== undefined) {
      throw new EngineError('exists', `Bitmap already exists: ${name}`, {
        node: node.name,
        hint: 'Remove that one first, or choose another name.',
      });
    }
    const added = this.#added.get(node) ?? new Map<string, DirtyBitmap>();
    this.#added.set(node, added.set(name, bitmap));
  }
}
