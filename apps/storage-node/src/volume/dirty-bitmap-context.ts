// A dirty bitmap as an NBD metadata context: bit 0 of an extent's flags says dirty, the others are zero.
import type { Bitmap } from '@tidemark/engine';
import type { StatusExtent } from '@tidemark/nbd';
import type { ExtraContext } from '../exports/block-export.ts';

const STATE_DIRTY = 1 << 0;
/** Extents in one answer; the client asks on from where it stops. */
const EXTENTS_MAX = 16 * 1024;

export function dirtyBitmapContext(name: string, bits: () => Bitmap): ExtraContext {
  return {
    name: `qemu:dirty-bitmap:${name}`,
    status: (offset, length) => dirtyExtents(bits(), offset, offset + length),
  };
}

function dirtyExtents(bits: Bitmap, offset: number, end: number): StatusExtent[] {
  const extents: StatusExtent[] = [];
  let position = offset;
  while (position < end && extents.length < EXTENTS_MAX) {
    const dirty = bits.nextDirty(position, end);
    if (dirty !== position) {
      const next = dirty < 0 ? end : dirty;
      extents.push({ length: next - position, flags: 0 });
      position = next;
    } else {
      const zero = bits.nextZero(position, end);
      const next = zero < 0 ? end : zero;
      extents.push({ length: next - position, flags: STATE_DIRTY });
      position = next;
    }
  }
  return extents;
}
