// A disk in memory behind a real NBD server, for tests of what the demo does over NBD.

import { formatNbdUri, type NbdExport, NbdServer } from '@tidemark/nbd';
import type { DiskReader } from '../disk-reader.ts';

export interface MemoryDisk {
  readonly uri: string;
  /** The disk's content, live. */
  readonly bytes: Buffer;
  /** Bytes of all writes so far. */
  written(): number;
  /** Further writes fail with ENOSPC. */
  breakWrites(): void;
  close(): Promise<void>;
}

export async function serveMemoryDisk(sizeBytes: number): Promise<MemoryDisk> {
  const bytes = Buffer.alloc(sizeBytes);
  let written = 0;
  let broken = false;
  const target: NbdExport = {
    name: 'disk',
    listed: true,
    sizeBytes,
    readOnly: false,
    multiConn: true,
    minBlockBytes: 1,
    preferredBlockBytes: 4096,
    maxBlockBytes: 32 * 1024 * 1024,
    fastZero: false,
    contexts: [],
    read: (offset, buffer) => void bytes.copy(buffer, 0, offset, offset + buffer.length),
    write: (offset, buffer) => {
      if (broken) throw new Error('broken by the test');
      written += buffer.length;
      buffer.copy(bytes, offset);
      return undefined;
    },
    writeZeroes: (offset, length) => void bytes.fill(0, offset, offset + length),
    trim: () => undefined,
    flush: () => undefined,
    cache: () => undefined,
    blockStatus: (_context, _offset, length) => [{ length, flags: 0 }],
  };
  const server = new NbdServer({ toErrno: () => 'ENOSPC' });
  server.addExport(target);
  const address = await server.listen({ host: '127.0.0.1', port: 0 });
  const uri = formatNbdUri({ ...address, exportName: 'disk' });
  return {
    uri,
    bytes,
    written: () => written,
    breakWrites: () => {
      broken = true;
    },
    close: () => server.close(),
  };
}

export function readerOf(bytes: Buffer): DiskReader {
  return {
    sizeBytes: bytes.length,
    read: async (offset, buffer) => void bytes.copy(buffer, 0, offset, offset + buffer.length),
    close: async () => {},
  };
}
