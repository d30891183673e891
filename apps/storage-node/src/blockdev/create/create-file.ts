// `blockdev-create` of a file of this machine.
import { rm } from 'node:fs/promises';
import { EngineError, FileNode } from '@tidemark/engine';
import { z } from 'zod';
import { int64, size } from '../../qmp/arguments.ts';
import { claimFile, couldNotCreate } from '../claim-file.ts';

export const createFileOptions = z.strictObject({
  driver: z.literal('file'),
  filename: z.string(),
  size,
  preallocation: z.enum(['off', 'metadata', 'falloc', 'full']).optional(),
  /** Hints to the file system, which none of ours needs. */
  nocow: z.boolean().optional(),
  'extent-size-hint': int64.optional(),
});

type Options = z.output<typeof createFileOptions>;

/** One request of a full preallocation: large enough to be quick, small enough to hold. */
const CHUNK_BYTES = 4 * 1024 * 1024;

/** Afterwards the file has that size and reads as zeroes, durably. One that was there loses what it held. */
export async function createFile({ filename, size: bytes, preallocation = 'off' }: Options): Promise<void> {
  const { file, made } = await openOrMake(filename);
  try {
    if (preallocation === 'metadata') {
      const text = 'Unsupported preallocation mode: metadata';
      throw new EngineError('unsupported', text, { path: filename, hint: "Say 'falloc' or 'full'." });
    }
    await file.resize(0);
    await file.resize(bytes);
    if (preallocation === 'falloc' && bytes > 0) await file.writeZeroes(0, bytes, { mayUnmap: false });
    if (preallocation === 'full') await writeAll(file, bytes);
    await file.close();
  } catch (error) {
    await file.close().catch(() => undefined);
    if (made) await rm(filename, { force: true });
    throw error;
  }
}

async function openOrMake(filename: string): Promise<{ file: FileNode; made: boolean }> {
  try {
    return { file: await FileNode.open(filename, { create: 'exclusive' }), made: true };
  } catch (error) {
    if (!(error instanceof EngineError) || error.kind !== 'exists') throw couldNotCreate(filename, error);
  }
  return { file: await claimFile(filename), made: false };
}

async function writeAll(file: FileNode, bytes: number): Promise<void> {
  const zeroes = Buffer.alloc(Math.min(bytes, CHUNK_BYTES));
  for (let offset = 0; offset < bytes; offset += CHUNK_BYTES) {
    await file.write(offset, zeroes.subarray(0, Math.min(CHUNK_BYTES, bytes - offset)));
  }
}
