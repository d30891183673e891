// Whether an image can be opened as asked for: what it has that this engine only reads, or does not do.
import { EngineError } from '../../errors.ts';
import type { BlockNode } from '../../node/block-node.ts';
import { SECTOR_BYTES } from '../../units.ts';
import { INCOMPATIBLE } from './format.ts';
import type { Qcow2Header } from './header.ts';

/** Throws kind `unsupported`, `corrupt` or `invalid-argument`, saying what to do. */
export function assertOpenable(
  file: BlockNode,
  header: Qcow2Header,
  options: { backing?: BlockNode; ignoreBacking?: boolean },
  readOnly: boolean,
): void {
  const refuse = (kind: 'unsupported' | 'corrupt' | 'invalid-argument', what: string) => {
    throw new EngineError(kind, `cannot open this qcow2 image: ${what}`, { op: 'open' });
  };
  if (file.requestAlignmentBytes > SECTOR_BYTES) {
    refuse(
      'unsupported',
      `its file wants requests of ${file.requestAlignmentBytes} bytes, more than a sector`,
    );
  }
  if (header.backingPath !== undefined && options.backing === undefined && !options.ignoreBacking) {
    refuse('invalid-argument', `its backing image ${header.backingPath} was not given`);
  }
  if (readOnly) return;
  if (file.readOnly) refuse('invalid-argument', 'its file is open read-only, the image is to be written');
  if (header.version === 2)
    refuse('unsupported', 'version 2 images can only be read; convert it to version 3');
  if (header.snapshotCount > 0) refuse('unsupported', 'images with internal snapshots can only be read');
  if (header.refcountOrder !== 4) refuse('unsupported', 'images without 16-bit refcounts can only be read');
  if (header.autoclearFeatures !== 0n) {
    refuse(
      'unsupported',
      'it has persistent bitmaps (or another autoclear feature), which writing would invalidate',
    );
  }
  if ((header.incompatibleFeatures & (INCOMPATIBLE.dirty | INCOMPATIBLE.corrupt)) !== 0n) {
    refuse('corrupt', 'it is marked dirty or corrupt; repair it with qemu-img check -r all');
  }
}
