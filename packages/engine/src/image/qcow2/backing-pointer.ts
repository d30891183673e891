// What an image's header says of its backing image, changed in the file: for a driver that is opened afterwards.
import type { BlockNode } from '../../node/block-node.ts';
import { readQcow2Header } from './header.ts';
import { HeaderFile } from './header-file.ts';

/**
 * To be called while no driver that has the image open writes. Durable when it resolves; undefined: no backing image.
 * Rejects with `invalid-argument` where the name does not fit, or `io`: the header says the old or the new then.
 */
export async function rewriteBackingPointer(
  file: BlockNode,
  pointer: { path: string; format: string | undefined } | undefined,
): Promise<void> {
  const headerFile = new HeaderFile(file, await readQcow2Header(file));
  await headerFile.rewrite({ backing: pointer ?? null });
}
