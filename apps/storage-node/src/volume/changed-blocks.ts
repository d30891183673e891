// What a bitmap calls changed, as runs of bytes: found part by part, so that no list of a whole disk is ever made.
import type { Bitmap, DirtyArea } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';

export interface ChangedPart {
  readonly ranges: readonly DirtyArea[];
  /** What was looked at ends here. */
  readonly nextOffset: number;
  readonly granularityBytes: number;
}

/** `length` 0: to the end of the disk. */
export interface Stretch {
  readonly offset: number;
  readonly length: number;
}

/** At least one part; the last one ends where the stretch does. Throws `invalid-request` for one past the end. */
export function* changedParts(bits: Bitmap, stretch: Stretch, rangesMax: number): Generator<ChangedPart> {
  const end = endOf(bits, stretch);
  let { offset } = stretch;
  do {
    const ranges: DirtyArea[] = [];
    let area: DirtyArea | undefined;
    while (ranges.length < rangesMax) {
      area = bits.nextDirtyArea(offset, end);
      if (area === undefined) break;
      ranges.push(area);
      offset = area.offset + area.length;
    }
    if (area === undefined) offset = end;
    yield { ranges, nextOffset: offset, granularityBytes: bits.granularityBytes };
  } while (offset < end);
}

/** In whole granules. Throws as `changedParts`. */
export function changedBytes(bits: Bitmap, stretch: Stretch): number {
  const end = endOf(bits, stretch);
  const { granularityBytes } = bits;
  if (stretch.offset === 0 && end === bits.sizeBytes) return bits.dirtyBytes;
  let granules = 0;
  let area = bits.nextDirtyArea(stretch.offset, end);
  while (area !== undefined) {
    const stop = area.offset + area.length;
    granules += Math.ceil(stop / granularityBytes) - Math.floor(area.offset / granularityBytes);
    area = bits.nextDirtyArea(stop, end);
  }
  return granules * granularityBytes;
}

function endOf({ sizeBytes }: Bitmap, { offset, length }: Stretch): number {
  const end = length === 0 ? sizeBytes : offset + length;
  if (offset <= end && end <= sizeBytes) return end;
  throw new TidemarkError(
    'invalid-request',
    `The stretch from ${offset} to ${end} is not within the disk, which has ${sizeBytes} bytes.`,
  );
}
