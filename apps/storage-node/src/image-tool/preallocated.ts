// Whether an image's clusters were given their places before anything was written to them: then the file's holes tell
// which of them are zero.
import type { FileNode, Qcow2Header } from '@tidemark/engine';
import { Qcow2Map } from './qcow2-map.ts';

/** What the file may take less than its clusters by chance: the ends of clusters that were never written whole. */
const TOLERANCE = 0.9;

/** True where the clusters with data take clearly more than the file has on the disk. */
export async function isPreallocated(file: FileNode, header: Qcow2Header): Promise<boolean> {
  const allocatedBytes = await file.allocatedBytes();
  if (allocatedBytes >= file.sizeBytes * TOLERANCE) return false;
  const map = new Qcow2Map(file, header);
  let dataBytes = 0;
  for (let at = 0; at < header.sizeBytes; ) {
    const { length, kind } = await map.lookup(at, header.sizeBytes - at);
    if (kind === 'data') dataBytes += length;
    if (dataBytes * TOLERANCE > allocatedBytes) return true;
    at += length;
  }
  return false;
}
