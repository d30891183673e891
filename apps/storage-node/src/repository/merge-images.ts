// Block commit between two backups: what the child's image has itself goes into its parent's image. Nobody but those
// who read through the child sees it meanwhile, and for them the child's own clusters lie over what changes below.
import path from 'node:path';
import {
  type BlockNode,
  checkQcow2,
  EngineError,
  type Extent,
  FileNode,
  openImage,
  Qcow2Image,
  readQcow2Header,
  type TaskControl,
} from '@tidemark/engine';

/** Copied in one request; two are under way at a time. */
const CHUNK_BYTES = 1024 * 1024;
/** Looked at in one go for what is the child's own. */
const WINDOW_BYTES = 64 * 1024 * 1024;

export interface MergeEstimate {
  /** Of the child's own data. */
  readonly dataBytes: number;
  /** Of these: what the parent has no place for yet. */
  readonly newBytes: number;
}

export class ImageMerge {
  readonly #parent: BlockNode;
  readonly #child: BlockNode;

  private constructor(parent: BlockNode, child: BlockNode) {
    this.#parent = parent;
    this.#child = child;
  }

  /** Rejects with what the images say; nothing is open then. Close it in any case. */
  static async open(paths: { parent: string; child: string }): Promise<ImageMerge> {
    const child = await openAlone(paths.child);
    try {
      return new ImageMerge(await openBeside(paths.parent), child);
    } catch (error) {
      await child.close();
      throw error;
    }
  }

  /** By the maps alone. */
  async estimate(): Promise<MergeEstimate> {
    let dataBytes = 0;
    let newBytes = 0;
    for await (const { offset, length, data } of ownExtents(this.#child)) {
      if (!data) continue;
      dataBytes += length;
      newBytes += length;
      const end = Math.min(offset + length, this.#parent.sizeBytes);
      for (let at = offset; at < end; ) {
        for (const extent of await this.#parent.extents(at, end - at)) {
          if (extent.data && extent.depth === 1) newBytes -= extent.length;
          at = extent.offset + extent.length;
        }
      }
    }
    return { dataBytes, newBytes };
  }

  /**
   * Afterwards the parent's image reads as the child does, durably. Rejects with kind `io` or `corrupt`, and
   * `cancelled` when the job is to end: the child reads as ever then, and the same may be done again.
   */
  async copy({ pace, progress }: TaskControl, options: { compress: boolean }): Promise<void> {
    const parent = this.#parent;
    const { sizeBytes } = this.#child;
    if (parent.sizeBytes < sizeBytes) await parent.resize!(sizeBytes);
    const buffers = [Buffer.allocUnsafeSlow(CHUNK_BYTES), Buffer.allocUnsafeSlow(CHUNK_BYTES)] as const;
    let writing: Promise<void> | undefined;
    let turn = 0;
    try {
      for await (const { offset, length, data } of ownExtents(this.#child)) {
        for (let at = offset; at < offset + length; ) {
          const part = Math.min(CHUNK_BYTES, offset + length - at);
          if (!data) {
            await parent.writeZeroes(at, part, { mayUnmap: true });
          } else {
            turn = 1 - turn;
            const bytes = buffers[turn as 0 | 1].subarray(0, part);
            await this.#child.read(at, bytes);
            await writing;
            writing = write(parent, at, bytes, options.compress);
            // It is waited for at the next turn.
            writing.catch(() => undefined);
            progress.currentBytes += part;
            progress.sentBytes += part;
          }
          at += part;
          await pace(data ? part : 0);
        }
      }
      await writing;
      await parent.flush();
    } finally {
      await writing?.catch(() => undefined);
    }
  }

  async close(): Promise<void> {
    try {
      await this.#parent.close();
    } finally {
      await this.#child.close();
    }
  }
}

async function write(parent: BlockNode, offset: number, bytes: Buffer, compress: boolean): Promise<void> {
  if (compress && parent.writeCompressed !== undefined) await parent.writeCompressed(offset, bytes);
  else await parent.write(offset, bytes);
}

/** The image without those below it. */
async function openAlone(imagePath: string): Promise<BlockNode> {
  const file = await FileNode.open(imagePath, { readOnly: true });
  try {
    return await Qcow2Image.open(file, { readOnly: true, ignoreBacking: true });
  } catch (error) {
    await file.close();
    throw error;
  }
}

/**
 * For writing, while others read through it: the repository knows who does what to its files. What lies below is
 * needed for clusters that are written in part.
 */
async function openBeside(imagePath: string): Promise<BlockNode> {
  const file = await FileNode.open(imagePath, { locking: 'off' });
  let backing: BlockNode | undefined;
  try {
    const { backingPath } = await readQcow2Header(file);
    if (backingPath !== undefined) {
      const below = path.resolve(path.dirname(imagePath), backingPath);
      backing = await openImage(below, { readOnly: true, format: 'qcow2' });
    }
    return await Qcow2Image.open(file, backing === undefined ? {} : { backing });
  } catch (error) {
    await backing?.close();
    await file.close();
    throw error;
  }
}

async function* ownExtents(image: BlockNode): AsyncGenerator<Extent> {
  for (let at = 0; at < image.sizeBytes; ) {
    const window = Math.min(WINDOW_BYTES, image.sizeBytes - at);
    for (const extent of await image.extents(at, window)) {
      at = extent.offset + extent.length;
      if (extent.depth === 1) yield extent;
    }
  }
}

/** Gives back what earlier attempts took and lost. Rejects with `corrupt` where more than that is wrong. */
export async function checkMerged(imagePath: string): Promise<void> {
  const file = await FileNode.open(imagePath, { locking: 'off' });
  try {
    const { corruptions, checkErrors, leaks, leaksFixed, findings } = await checkQcow2(file, {
      repair: 'leaks',
    });
    if (corruptions === 0 && checkErrors === 0 && leaks <= leaksFixed) return;
    const text = `${imagePath} was merged and does not pass the check: ${findings.join('; ')}`;
    throw new EngineError('corrupt', text, { op: 'check', path: imagePath });
  } finally {
    await file.close();
  }
}
