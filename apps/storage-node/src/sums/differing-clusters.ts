// Which clusters of a disk differ from what a backup's checksums say, found by reading the disk where it is: nothing of
// the backup itself is needed.
import type { Attachment, Bitmap } from '@tidemark/engine';
import { agrees, CLUSTER_BYTES, isZeroes, RECORD_BYTES } from './sums-format.ts';
import type { RecordSource } from './sums-reader.ts';

/** Looked at in one go, before others get their turn: some 2 ms of hashing. */
const WINDOW_BYTES = 8 * CLUSTER_BYTES;

export interface Comparison {
  readonly disk: Attachment;
  readonly sums: RecordSource;
  /** Called often, with nothing under way; where it rejects, so does the comparison. */
  readonly rest: () => Promise<void>;
}

/** Takes out of `clusters` those whose bytes are as the checksums say. */
export async function keepDiffering(clusters: Bitmap, { disk, sums, rest }: Comparison): Promise<void> {
  for (let from = 0; ; ) {
    await rest();
    await new Promise<void>(resolve => setImmediate(resolve));
    const area = clusters.nextDirtyArea(from, disk.sizeBytes, WINDOW_BYTES);
    if (area === undefined) return;
    const end = area.offset + area.length;
    const first = area.offset / CLUSTER_BYTES;
    const records = await sums.records(first, Math.ceil(end / CLUSTER_BYTES) - first);
    const isZero = await zeroStatus(disk, area);
    const buffer = Buffer.allocUnsafe(CLUSTER_BYTES);
    for (let at = area.offset, place = 0; at < end; at += CLUSTER_BYTES, place += RECORD_BYTES) {
      const record = records.subarray(place, place + RECORD_BYTES);
      const bytes = buffer.subarray(0, Math.min(CLUSTER_BYTES, end - at));
      const isHole = isZero(at, bytes.length);
      if (!isHole) await disk.read(at, bytes);
      // A bit that stands for several clusters stays, as a reset of a part of it does nothing.
      if (isHole ? isZeroes(record) : agrees(record, bytes)) clusters.reset(at, bytes.length);
    }
    from = end;
  }
}

/** What is known to be zero without reading it, as far as one question tells. */
async function zeroStatus(
  disk: Attachment,
  { offset, length }: { offset: number; length: number },
): Promise<(offset: number, length: number) => boolean> {
  const runs: { start: number; end: number }[] = [];
  for (const extent of await disk.extents(offset, length)) {
    if (!extent.zero) continue;
    const last = runs.at(-1);
    const end = extent.offset + extent.length;
    if (last?.end === extent.offset) last.end = end;
    else runs.push({ start: extent.offset, end });
  }
  return (at, bytes) => runs.some(({ start, end }) => start <= at && at + bytes <= end);
}
