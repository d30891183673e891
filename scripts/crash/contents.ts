// Reads a whole disk, an image or an export, and tells what each block holds.
import { openImage } from '@tidemark/engine';
import { NbdClient } from '@tidemark/nbd';
import type { SeededRandom } from '../../packages/engine/src/testing/seeded-random.ts';
import { readStamp } from '../demo/stamped-block.ts';
import { type Contents, DAMAGED, ZEROES } from './disk-model.ts';
import { BLOCK_BYTES, DISK_BLOCKS, DISK_BYTES } from './limits.ts';

const PIECE_BYTES = 1024 * 1024;
const SPOILED_PLACES = 6;
const SPOILED_BLOCKS_MAX = 20;

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

/**
 * Writes what belongs to no disk to some places of a volume, durably, and goes. False: its storage node took some of
 * it and then was gone.
 */
export async function spoil(uri: string, random: SeededRandom): Promise<boolean> {
  const client = await NbdClient.connect({ uri });
  try {
    for (let places = SPOILED_PLACES; places > 0; places -= 1) {
      const bytes = Buffer.alloc(BLOCK_BYTES * random.int(1, SPOILED_BLOCKS_MAX), 0xa5);
      await client.write(random.int(0, DISK_BLOCKS - SPOILED_BLOCKS_MAX) * BLOCK_BYTES, bytes);
    }
    await client.flush();
    await client.disconnect();
    return true;
  } catch {
    client.destroy();
    return false;
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
