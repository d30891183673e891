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
  if ((header.incompatibleFeatures & INCOMPATIBLE.corrupt) !== 0n) {
    refuse('corrupt', 'it is marked corrupt and can only be read; repair it with qemu-img check -r all');
  }
}
