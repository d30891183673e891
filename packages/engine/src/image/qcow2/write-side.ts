// What only a writable image has: the writers, and the metadata that they change.
import type { BlockNode } from '../../node/block-node.ts';
import type { Pending } from '../../pending.ts';
import { ClusterWriter } from './cluster-writer.ts';
import type { ClusterMap } from './clusters.ts';
import { CompressedWriter } from './compressed-writer.ts';
import type { EpochGate } from './epoch-gate.ts';
import type { Qcow2Header } from './header.ts';
import type { ImageReader } from './image-reader.ts';
import { MetadataWriter } from './metadata-writer.ts';
import { completeLastCluster } from './read-padded.ts';
import type { Refcounts } from './refcounts.ts';

export interface WriteSideOptions {
  file: BlockNode;
  backing: BlockNode | undefined;
  header: Qcow2Header;
  clusters: ClusterMap;
  reader: ImageReader;
  gate: EpochGate;
  refcounts: Refcounts;
}

export interface WriteSide {
  metadata: MetadataWriter;
  writer: ClusterWriter;
  compressed: CompressedWriter;
  refcounts: Refcounts;
  /** Writes to a place in the file that the mapping gave; it is not given to others until that has ended. */
  writeHost: (hostOffset: number, buffer: Buffer) => Pending;
  /** Writes all metadata, frees what waits for it, and cuts off what the file was grown by in advance. */
  settle: () => Promise<void>;
}

export function makeWriteSide(options: WriteSideOptions): WriteSide {
  const { file, backing, header, clusters, reader, gate, refcounts } = options;
  const metadata = new MetadataWriter({ file, refcounts, clusters, gate });
  const writeHost = (offset: number, buffer: Buffer): Pending => {
    file.debugEvent?.('write_aio');
    const write = () => file.write(offset, buffer);
    if (offset + buffer.length <= file.sizeBytes) return reader.hostRequest(gate.enter(), write);
    return reader.hostRequest(gate.enter(), () => completeLastCluster(file, header.clusterBytes).then(write));
  };
  const { clusterBytes, sizeBytes } = header;
  const shared = { clusters, refcounts, clusterBytes, writeHost };
  const writer = new ClusterWriter({
    ...shared,
    metadata,
    sizeBytes,
    backingBytes: backing?.sizeBytes ?? (header.backingPath === undefined ? 0 : sizeBytes),
    hasZeroFlag: header.version >= 3,
    readGuest: (offset, buffer) => reader.read(offset, buffer),
  });
  const compressed = new CompressedWriter({
    ...shared,
    locks: writer.locks,
    compressionType: header.compressionType,
    writePlain: (offset, buffer) => writer.write(offset, buffer),
  });
  const settle = async () => {
    try {
      await metadata.writeBack();
    } finally {
      await metadata.released();
    }
    await metadata.writeBack();
    await refcounts.trim();
  };
  return { metadata, writer, compressed, refcounts, writeHost, settle };
}
