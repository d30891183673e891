// Copies disks, one after the other, into one image: data as data, and what is known or found to be zero as nothing,
// where the target lets it be. Memory is bounded by the requests in flight.
import { alignUp, type BlockNode } from '@tidemark/engine';
import { BlockMap } from './block-map.ts';
import type { Layers } from './layers.ts';
import type { ProgressLine } from './progress.ts';
import { ToolError } from './tool-error.ts';
import { splitZeroes } from './zeroes.ts';

export interface CopyImageOptions {
  readonly sources: readonly Layers[];
  readonly target: BlockNode;
  /** What nobody writes to reads as zeroes. */
  readonly targetIsZero: boolean;
  /** What the source's own top image does not have is in the target's backing image already. */
  readonly topOnly: boolean;
  /** Runs of zeroes of at least this many bytes are not written; 0: all is written. */
  readonly sparseBytes: number;
  readonly compressed: boolean;
  /** Requests in flight. */
  readonly workers: number;
  readonly progress: ProgressLine;
}

/** Large enough for the disk's full speed, small enough to hold several. */
const CHUNK_BYTES = 2 * 1024 * 1024;

interface Piece {
  readonly source: BlockNode;
  /** In the source. */
  readonly offset: number;
  readonly length: number;
  /** In the target. */
  readonly targetOffset: number;
  readonly zero: boolean;
}

/** Rejects with the first error; requests in flight have ended by then. */
export async function copyImage(options: CopyImageOptions): Promise<void> {
  const pieces = piecesOf(options);
  let failure: unknown;
  const work = async (): Promise<void> => {
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
    for (;;) {
      const { value, done } = await pieces.next();
      if (done || failure !== undefined) return;
      try {
        await copyPiece(value, buffer, options);
      } catch (error) {
        failure ??= error;
        return;
      }
      options.progress.update(value.targetOffset + value.length);
    }
  };
  await Promise.all(Array.from({ length: options.workers }, work));
  await pieces.return(undefined);
  if (failure !== undefined) throw failure;
}

/** In order; for a compressed target in whole clusters. */
async function* piecesOf(options: CopyImageOptions): AsyncGenerator<Piece, undefined> {
  const { sources, target, topOnly, sparseBytes, compressed } = options;
  const unit = compressed ? target.clusterSizeBytes! : 1;
  let base = 0;
  assertWholeClusters(sources, unit);
  for (const { all, top } of sources) {
    const { sizeBytes } = top.disk;
    const map = new BlockMap(all);
    for (let at = 0; at < sizeBytes; ) {
      const entry = await map.lookup(at, sizeBytes - at);
      const skip = topOnly && (entry.depth > 0 || !entry.present);
      const zero = entry.zero && sparseBytes > 0;
      // A cluster that has data in any part is copied whole, and what follows goes on behind it.
      const end = Math.min(sizeBytes, skip || zero ? at + entry.length : alignUp(at + entry.length, unit));
      const from = skip || zero ? at : at - (at % unit);
      const most = zero ? Infinity : CHUNK_BYTES;
      for (let offset = from; !skip && offset < end; ) {
        const length = Math.min(most, end - offset);
        yield { source: top.disk, offset, length, targetOffset: base + offset, zero };
        offset += length;
      }
      at = end;
    }
    base += sizeBytes;
  }
}

/** Throws where a source would begin in the middle of a cluster, which can be compressed only as a whole. */
function assertWholeClusters(sources: readonly Layers[], unitBytes: number): void {
  const before = sources.slice(0, -1);
  if (before.every(({ top }) => top.disk.sizeBytes % unitBytes === 0)) return;
  throw new ToolError(`Only images of whole clusters of ${unitBytes} bytes can be put together compressed`);
}

async function copyPiece(piece: Piece, buffer: Buffer, options: CopyImageOptions): Promise<void> {
  const { targetOffset, length, zero } = piece;
  if (zero) return writeZeroes(targetOffset, length, options);
  const bytes = buffer.subarray(0, length);
  await piece.source.read(piece.offset, bytes);
  if (options.compressed) return writeCompressed(targetOffset, bytes, options);
  if (options.sparseBytes === 0) {
    await options.target.write(targetOffset, bytes);
    return;
  }
  for (const part of splitZeroes(bytes, options.sparseBytes)) {
    const { start, end } = part;
    if (part.zero) await writeZeroes(targetOffset + start, end - start, options);
    else await options.target.write(targetOffset + start, bytes.subarray(start, end));
  }
}

async function writeZeroes(offset: number, length: number, options: CopyImageOptions): Promise<void> {
  if (!options.targetIsZero) await options.target.writeZeroes(offset, length, { mayUnmap: true });
}

/** Runs of clusters at a time: those of one run are compressed side by side. */
async function writeCompressed(offset: number, bytes: Buffer, options: CopyImageOptions): Promise<void> {
  const { target, sparseBytes } = options;
  const clusterBytes = target.clusterSizeBytes!;
  if (sparseBytes === 0) {
    await target.writeCompressed!(offset, bytes);
    return;
  }
  for (const { start, end, zero } of splitZeroes(bytes, clusterBytes)) {
    if (zero) await writeZeroes(offset + start, end - start, options);
    else await target.writeCompressed!(offset + start, bytes.subarray(start, end));
  }
}
