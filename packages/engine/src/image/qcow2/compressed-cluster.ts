// Compressed clusters: raw deflate or zstd. Reading ends when a cluster of data has come out; what
// follows in the last sector belongs to nobody or to the next cluster.
import { promisify } from 'node:util';
import { createInflateRaw, createZstdDecompress, deflateRaw, zstdCompress } from 'node:zlib';
import { EngineError } from '../../errors.ts';
import type { CompressionType } from './format.ts';

/** Readers inflate with a window of 4 KiB: what was deflated with a larger one they cannot read. */
const DEFLATE_WINDOW_BITS = 12;

const deflate = promisify(deflateRaw) as (data: Buffer, options: object) => Promise<Buffer>;
const compressZstd = promisify(zstdCompress) as (data: Buffer, options: object) => Promise<Buffer>;

/** The whole cluster, compressed; may come out larger. */
export function compressCluster(type: CompressionType, cluster: Buffer): Promise<Buffer> {
  // All of it comes out in one piece: what does not compress grows by less than this.
  const chunkSize = cluster.length + cluster.length / 64 + 1024;
  if (type === 'zlib') return deflate(cluster, { windowBits: DEFLATE_WINDOW_BITS, chunkSize });
  // Without the size zstd makes room for a stream of any length, which takes longer than the compression.
  return compressZstd(cluster, { pledgedSrcSize: cluster.length, chunkSize });
}

/** Rejects with `corrupt` where the data ends or fails before a whole cluster has come out. */
export function decompressCluster(
  type: CompressionType,
  data: Buffer,
  clusterBytes: number,
  offset: number,
): Promise<Buffer> {
  const stream = type === 'zlib' ? createInflateRaw() : createZstdDecompress();
  const cluster = Buffer.allocUnsafe(clusterBytes);
  let filled = 0;
  return new Promise((resolve, reject) => {
    const fail = (cause?: unknown) => {
      stream.destroy();
      reject(
        new EngineError(
          'corrupt',
          `the ${type} compressed cluster at ${offset} ends after ${filled} of ${clusterBytes} bytes`,
          { op: 'read', offset, length: data.length },
          cause,
        ),
      );
    };
    stream.on('data', (chunk: Buffer) => {
      filled += chunk.copy(cluster, filled);
      if (filled < clusterBytes) return;
      resolve(cluster);
      stream.destroy();
    });
    // After the cluster is complete these settle a promise that is settled already.
    stream.on('error', fail);
    stream.on('end', () => fail());
    stream.end(data);
  });
}
