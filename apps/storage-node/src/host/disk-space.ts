// What the file system under a path says of its space.
import { stat, statfs } from 'node:fs/promises';
import { EngineError } from '@tidemark/engine';

/** st_blocks counts in this unit whatever the file system's block size (stat(2)). */
const STAT_BLOCK_BYTES = 512;

export interface DiskSpace {
  capacityBytes: number;
  /** For unprivileged users: what the system keeps for root is not counted. */
  availableBytes: number;
}

export async function diskSpace(path: string): Promise<DiskSpace> {
  const { bsize, blocks, bavail } = await statfs(path);
  return { capacityBytes: blocks * bsize, availableBytes: bavail * bsize };
}

/** Bytes a file takes, holes not counted. */
export async function storedBytes(path: string): Promise<number> {
  return (await stat(path)).blocks * STAT_BLOCK_BYTES;
}

/** The system's names for a place that is full. */
const NO_SPACE = new Set<unknown>(['ENOSPC', 'EDQUOT']);

/** Whether this error, of the engine, of NBD or of the system, says that there is no room left. */
export function isNoSpace(error: unknown): boolean {
  if (error instanceof EngineError) return error.kind === 'io' && NO_SPACE.has(error.context.errno);
  const { code, errno } = (error ?? {}) as { code?: unknown; errno?: unknown };
  return NO_SPACE.has(code) || NO_SPACE.has(errno);
}
