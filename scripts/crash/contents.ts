// Reads a whole disk, an image or an export, and tells what each block holds.
import { openImage } from '@tidemark/engine';
import { NbdClient } from '@tidemark/nbd';
import { readStamp } from '../demo/stamped-block.ts';
import { type Contents, DAMAGED, ZEROES } from './disk-model.ts';
import { BLOCK_BYTES, DISK_BLOCKS, DISK_BYTES } from './limits.ts';

const PIECE_BYTES = 1024 * 1024;

type Read = (offset: number, buffer: Buffer) => Promise<unknown> | undefined;

/** Rejects when the disk cannot be read to its end. */
export async function readContents(read: Read): Promise<Contents> {
  const contents = new Uint32Array(DISK_BLOCKS);
  const piece = Buffer.alloc(PIECE_BYTES);
  for (let offset = 0; offset < DISK_BYTES; offset += PIECE_BYTES) {
    await read(offset, piece);
    for (let at = 0; at < PIECE_BYTES; at += BLOCK_BYTES) {
      const block = (offset + at) / BLOCK_BYTES;
      contents[block] = contentOf(piece.subarray(at, at + BLOCK_BYTES), block);
    }
  }
  return contents;
}

function contentOf(bytes: Buffer, block: number): number {
  const stamp = readStamp(bytes);
  if (stamp === 'blank') return ZEROES;
  if (stamp === 'damaged' || stamp.block !== block) return DAMAGED;
  return stamp.sequence;
}

/** Of a volume, a backup's export or any other NBD server's. */
export async function readExport(uri: string): Promise<Contents> {
  const client = await NbdClient.connect({ uri });
  try {
    return await readContents((offset, buffer) => client.read(offset, buffer));
  } finally {
    await client.disconnect();
  }
}

/** Of an image file through its chain, without any service. */
export async function readImage(path: string, format: 'raw' | 'qcow2'): Promise<Contents> {
  const image = await openImage(path, { readOnly: true, format });
  try {
    return await readContents((offset, buffer) => image.read(offset, buffer));
  } finally {
    await image.close();
  }
}
