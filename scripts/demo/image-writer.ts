// Lays an image on a disk over NBD, sending only what the disk does not hold already.

import { NbdClient } from '@tidemark/nbd';
import { type DiskReader, openFile, scanDisk } from './disk-reader.ts';
import { REGION_BYTES, TRANSFERS_IN_FLIGHT } from './layout.ts';

/** What a filesystem writes at least. */
const BLOCK_BYTES = 4096;

export interface ImageWrite {
  readonly uri: string;
  /** Where on the disk the image begins, in bytes. */
  readonly offset: number;
  readonly image: string;
  /** The image that the disk holds there now; null for a disk that is all zero there. */
  readonly previous: string | null;
  readonly signal?: AbortSignal;
}

/** Returns the bytes sent. Afterwards they are durable. */
export async function writeImage({ uri, offset, image, previous, signal }: ImageWrite): Promise<number> {
  const source = await openFile(image);
  const held = previous === null ? null : await openFile(previous);
  const disk = await NbdClient.connect({ uri }, { requestsMax: TRANSFERS_IN_FLIGHT });
  let sent = 0;
  try {
    const visit = async (at: number, bytes: Buffer): Promise<void> => {
      for (const { start, end } of changedRuns(bytes, await heldBytes(held, at, bytes.length))) {
        await disk.write(offset + at + start, bytes.subarray(start, end));
        sent += end - start;
      }
    };
    await scanDisk(source, visit, signal);
    await disk.flush();
  } finally {
    await Promise.all([disk.disconnect(), source.close(), held?.close()]);
  }
  return sent;
}

const ZEROES = Buffer.alloc(REGION_BYTES);

async function heldBytes(held: DiskReader | null, offset: number, length: number): Promise<Buffer> {
  if (held === null) return ZEROES.subarray(0, length);
  const buffer = Buffer.allocUnsafe(length);
  await held.read(offset, buffer);
  return buffer;
}

/** Runs of whole blocks that differ. */
function changedRuns(wanted: Buffer, held: Buffer): { start: number; end: number }[] {
  const runs: { start: number; end: number }[] = [];
  if (wanted.equals(held)) return runs;
  for (let start = 0; start < wanted.length; start += BLOCK_BYTES) {
    const end = Math.min(start + BLOCK_BYTES, wanted.length);
    if (wanted.compare(held, start, end, start, end) === 0) continue;
    const last = runs.at(-1);
    if (last?.end === start) last.end = end;
    else runs.push({ start, end });
  }
  return runs;
}
