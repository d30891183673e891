// What an image needs before the first write to it: refcounts that can be relied on, and no promise left that
// this engine does not keep. Section "Header", incompatible and autoclear features.
import type { BlockNode } from '../../node/block-node.ts';
import { checkQcow2 } from './check/check.ts';
import { AUTOCLEAR, EXTENSION, INCOMPATIBLE } from './format.ts';
import { type Qcow2Header, readQcow2Header } from './header.ts';
import { findExtension } from './header-extensions.ts';
import { HeaderFile } from './header-file.ts';

/** Returns the header as it is then. Rejects with `corrupt` (beyond repair) or `io`. */
export async function prepareForWriting(file: BlockNode, found: Qcow2Header): Promise<Qcow2Header> {
  let header = found;
  if ((header.incompatibleFeatures & INCOMPATIBLE.dirty) !== 0n) {
    await checkQcow2(file, { repair: 'all' });
    header = await readQcow2Header(file);
  }
  // Unknown autoclear features end here, and with them the bitmaps of whoever did not keep them up.
  const autoclearFeatures = header.bitmaps === undefined ? 0n : AUTOCLEAR.bitmaps;
  const headerFile = new HeaderFile(file, header);
  const stale =
    header.bitmaps === undefined && findExtension(header.extensions, EXTENSION.bitmaps) !== undefined;
  if (stale) await headerFile.rewrite({ fields: { autoclearFeatures }, bitmaps: null });
  else if (header.autoclearFeatures !== autoclearFeatures) await headerFile.patch({ autoclearFeatures });
  return headerFile.header;
}
