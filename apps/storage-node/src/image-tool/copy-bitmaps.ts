// Copies the bitmaps that an image keeps into another image.
import { addBitmap, applyAction, type BlockGraph, type GraphNode, mergeBitmaps } from '@tidemark/engine';
import type { ToolOutput } from './tool.ts';
import { errorText, ToolError } from './tool-error.ts';

export interface CopyBitmapsOptions {
  /** Of both. */
  readonly graph: BlockGraph;
  readonly source: GraphNode;
  readonly target: GraphNode;
  readonly skipBroken: boolean;
}

/** Throws for bitmaps that nobody can trust, unless they are to be left out. */
export function assertBitmapsWhole({
  source,
  skipBroken,
}: Pick<CopyBitmapsOptions, 'source' | 'skipBroken'>): void {
  const broken = source.bitmaps.all.find(bitmap => bitmap.inconsistent);
  if (broken === undefined || skipBroken) return;
  throw new ToolError(
    `Cannot copy inconsistent bitmap '${broken.name}'\n` +
      "Try --skip-broken-bitmaps, or use 'tidemark-image bitmap --remove' to delete it",
  );
}

/** The target records as the source does. */
export function copyBitmaps({ graph, source, target }: CopyBitmapsOptions, output: ToolOutput): void {
  for (const bitmap of source.bitmaps.all) {
    const { name, granularityBytes, recording, inconsistent } = bitmap.info();
    if (inconsistent) {
      output.err(`tidemark-image: warning: Skipping inconsistent bitmap '${name}'\n`);
      continue;
    }
    const copy = { node: target.name, name: name! };
    try {
      applyAction(graph, addBitmap({ ...copy, granularityBytes, recording, persistent: true }));
      applyAction(graph, mergeBitmaps(copy, [{ node: source.name, name: name! }]));
    } catch (error) {
      throw new ToolError(`Failed to copy bitmap '${name}': ${errorText(error)}`);
    }
  }
}
