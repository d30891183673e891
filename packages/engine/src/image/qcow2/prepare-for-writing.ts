// What an image needs before the first write to it: refcounts that can be relied on, and no promise left that
// this engine does not keep. Section "Header", incompatible and autoclear features.
import { EngineError } from '../../errors.ts';
import type { BlockNode } from '../../node/block-node.ts';
import { checkQcow2 } from './check/check.ts';
import { AUTOCLEAR, EXTENSION, INCOMPATIBLE } from './format.ts';
import { type Qcow2Header, readQcow2Header } from './header.ts';
import { findExtension } from './header-extensions.ts';
import type { HeaderFile } from './header-file.ts';

/**
 * Counts anew what a writer who did not end well left, and returns the header as it is then. Rejects with `corrupt`
 * (beyond repair; or nothing can be written yet) or `io`.
 */
export async function repairIfDirty(
  file: BlockNode,
  header: Qcow2Header,
  { mayWrite }: { mayWrite: boolean },
): Promise<Qcow2Header> {
  if ((header.incompatibleFeatures & INCOMPATIBLE.dirty) === 0n) return header;
  if (!mayWrite) {
    const text = 'this qcow2 image is marked dirty: close it, and open it for writing to have it repaired';
    throw new EngineError('corrupt', text, { op: 'open' });
  }
  await checkQcow2(file, { repair: 'all' });
  return readQcow2Header(file);
}

/**
 * Unknown autoclear features end, and with them the bitmaps of whoever did not keep them up. Without effect where
 * there are none. Rejects with `io`.
 */
export async function clearPromises(headerFile: HeaderFile): Promise<void> {
  const { header } = headerFile;
  const autoclearFeatures = header.bitmaps === undefined ? 0n : AUTOCLEAR.bitmaps;
  const extension = findExtension(header.extensions, EXTENSION.bitmaps);
  if (header.bitmaps === undefined && extension !== undefined) {
    await headerFile.rewrite({ fields: { autoclearFeatures }, bitmaps: null });
  } else if (header.autoclearFeatures !== autoclearFeatures) {
    await headerFile.patch({ autoclearFeatures });
  }
}
