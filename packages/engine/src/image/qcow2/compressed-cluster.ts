// Reading a compressed cluster: raw deflate or zstd, ending when a cluster of data has come out. What
// follows in the last sector belongs to nobody or to the next cluster.
import { createInflateRaw, createZstdDecompress } from 'node:zlib';
import { EngineError } from '../../errors.ts';
import type { CompressionType } from './format.ts';

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
