// Makes the file of a new image, in the place of what may lie there.
import {
  alignUp,
  createQcow2,
  createRawFile,
  EngineError,
  FileNode,
  IMAGE_BYTES_MAX,
  SECTOR_BYTES,
} from '@tidemark/engine';
import { type StagedFile, stageFile } from '../blockdev/staged-file.ts';
import { type ImageOptions, preallocationOf, qcow2Options, type TargetFormat } from './image-options.ts';
import { errorText, ToolError } from './tool-error.ts';

export interface MakeImageOptions {
  readonly path: string;
  readonly format: TargetFormat;
  readonly sizeBytes: number;
  readonly options: ImageOptions;
}

const CHUNK_BYTES = 4 * 1024 * 1024;
/** What an L1 table may have, in bytes, and its entries. */
const L1_BYTES_MAX = 32 * 1024 * 1024;
const ENTRY_BYTES = 8;

/** Rejects with a `ToolError` in qemu-img's words with nothing changed. */
export async function makeImage({ path, format, sizeBytes, options }: MakeImageOptions): Promise<StagedFile> {
  const make = format === 'raw' ? rawMaker(sizeBytes, options) : qcow2Maker(sizeBytes, options);
  try {
    return await stageFile({ path, token: `tidemark-${process.pid}`, make });
  } catch (error) {
    const inUse = error instanceof EngineError && error.kind === 'busy';
    const question = inUse ? `\nIs another process using the image [${path}]?` : '';
    throw new ToolError(`${errorText(error)}${question}`);
  }
}

function rawMaker(sizeBytes: number, options: ImageOptions): (path: string) => Promise<void> {
  const preallocation = preallocationOf(options, 'raw');
  return async path => {
    await createRawFile(path, sizeBytes);
    if (preallocation !== 'off') await fill(path, preallocation);
  };
}

async function fill(path: string, how: string): Promise<void> {
  const file = await FileNode.open(path);
  try {
    const { sizeBytes } = file;
    const zeroes = Buffer.alloc(Math.min(sizeBytes, CHUNK_BYTES));
    for (let offset = 0; offset < sizeBytes; offset += CHUNK_BYTES) {
      const length = Math.min(CHUNK_BYTES, sizeBytes - offset);
      if (how === 'falloc') await file.writeZeroes(offset, length, { mayUnmap: false });
      else await file.write(offset, zeroes.subarray(0, length));
    }
  } finally {
    await file.close();
  }
}

function qcow2Maker(sizeBytes: number, options: ImageOptions): (path: string) => Promise<void> {
  const checked = qcow2Options(options);
  const bytes = alignUp(sizeBytes, SECTOR_BYTES);
  const backing = backingOf(options);
  if (backing !== undefined && checked.preallocation !== 'off') {
    const text = 'Backing file and preallocation can only be used at the same time if extended_l2 is on';
    throw new ToolError(text);
  }
  const span = checked.clusterBytes! * (checked.clusterBytes! / ENTRY_BYTES);
  if (bytes > IMAGE_BYTES_MAX || Math.ceil(bytes / span) * ENTRY_BYTES > L1_BYTES_MAX) {
    throw new ToolError(
      "The image size is too large for file format 'qcow2' (try using a larger cluster size)",
    );
  }
  return path => createQcow2(path, { ...checked, sizeBytes: bytes, ...(backing && { backing }) });
}

function backingOf(options: ImageOptions): { path: string; format: TargetFormat } | undefined {
  const path = options.get('backing_file');
  if (path === undefined || path === '') return undefined;
  const format = options.get('backing_fmt');
  if (format !== 'raw' && format !== 'qcow2') throw new ToolError(`Unknown backing file format '${format}'`);
  return { path, format };
}
