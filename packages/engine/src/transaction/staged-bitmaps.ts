// The bitmaps as they will be after the actions prepared so far: later actions of a transaction see what
// earlier ones add and remove, and nobody else does.
import type { DirtyBitmap } from '../bitmap/dirty-bitmap.ts';
import { EngineError } from '../errors.ts';
import type { GraphNode } from '../graph/graph-node.ts';

export class StagedBitmaps {
  /** Undefined as a value: removed. */
  readonly #changes = new Map<GraphNode, Map<string, DirtyBitmap | undefined>>();

  find(node: GraphNode, name: string): DirtyBitmap | undefined {
    const changes = this.#changes.get(node);
    return changes?.has(name) ? changes.get(name) : node.bitmaps.find(name);
  }

  /** Throws kind `not-found`. */
  get(node: GraphNode, name: string): DirtyBitmap {
    const bitmap = this.find(node, name);
    if (bitmap !== undefined) return bitmap;
    throw new EngineError('not-found', `Dirty bitmap '${name}' not found`, { node: node.name });
  }

  add(node: GraphNode, name: string, bitmap: DirtyBitmap): void {
    if (this.find(node, name) !== undefined) {
      throw new EngineError('exists', `Bitmap already exists: ${name}`, { node: node.name });
    }
    this.#of(node).set(name, bitmap);
  }

  remove(node: GraphNode, name: string): void {
    this.#of(node).set(name, undefined);
  }

  #of(node: GraphNode): Map<string, DirtyBitmap | undefined> {
    const changes = this.#changes.get(node) ?? new Map<string, DirtyBitmap | undefined>();
    this.#changes.set(node, changes);
    return changes;
  }
}
