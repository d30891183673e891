// The dirty bitmaps that an image keeps: loaded when it is opened, marked in use while it is open for writing, and
// stored as a whole. Sections "Bitmaps extension" and "Bitmaps".
//
// New bits, tables and directory are durable before the header points to the directory; the old ones are given
// back afterwards. A power cut leaves the old directory, whose bitmaps say that they are in use, or the new one.
import type { Bitmap } from '../../bitmap/bitmap.ts';
import { DirtyBitmap } from '../../bitmap/dirty-bitmap.ts';
import { EngineError } from '../../errors.ts';
import {
  GRANULARITY_BYTES_MAX,
  GRANULARITY_BYTES_MIN,
  QCOW2_BITMAPS_MAX,
  QCOW2_BITMAPS_MEMORY_BYTES_MAX,
} from '../../limits.ts';
import type { BlockNode } from '../../node/block-node.ts';
import { hasRightTable, readBitmapBits, readBitmapTable, writeBitmapBits } from './bitmap-data.ts';
import { type BitmapEntry, encodeBitmapDirectory, readBitmapDirectory } from './bitmap-directory.ts';
import {
  AUTOCLEAR,
  BITMAP_FLAG,
  BITMAP_TABLE_OFFSET_MASK,
  BITMAP_TYPE_DIRTY_TRACKING,
  TABLE_ENTRY_BYTES,
} from './format.ts';
import type { HeaderFile } from './header-file.ts';
import { clearPromises } from './prepare-for-writing.ts';
import type { HostRun, Refcounts } from './refcounts.ts';

export interface StoredBitmapsContext {
  file: BlockNode;
  headerFile: HeaderFile;
  /** Undefined where the image is read-only. */
  refcounts: Refcounts | undefined;
  /** Makes all refcounts durable. */
  writeBack: () => Promise<void>;
}

/** What a list of the image's bitmaps shows. */
export interface StoredBitmapInfo {
  name: string;
  granularityBytes: number;
  inUse: boolean;
  auto: boolean;
}

export class StoredBitmaps {
  readonly #context: StoredBitmapsContext;
  #entries: BitmapEntry[];

  private constructor(context: StoredBitmapsContext, entries: BitmapEntry[]) {
    this.#context = context;
    this.#entries = entries;
  }

  /** Rejects with `invalid-format` (the directory), or `io`. */
  static async open(context: StoredBitmapsContext): Promise<StoredBitmaps> {
    const { file, headerFile } = context;
    return new StoredBitmaps(context, await readBitmapDirectory(file, headerFile.header));
  }

  /** As the file has them. */
  get list(): StoredBitmapInfo[] {
    return this.#entries.map(({ name, granularityBits, flags }) => ({
      name,
      granularityBytes: 2 ** granularityBits,
      inUse: (flags & BITMAP_FLAG.inUse) !== 0,
      auto: (flags & BITMAP_FLAG.auto) !== 0,
    }));
  }

  /**
   * The bitmaps with their bits, in the order of the directory. Those that cannot be relied on (in use by somebody
   * who did not end well, or damaged) are inconsistent. What is not a bitmap of a kind known here is left out, and
   * stays in the image. Rejects with `io`.
   */
  async load(): Promise<DirtyBitmap[]> {
    const bitmaps: DirtyBitmap[] = [];
    let memoryBytes = 0;
    for (const entry of this.#entries) {
      if (!isKnown(entry)) continue;
      const bitmap = await this.#loadOne(entry);
      memoryBytes += bitmap.bits.memoryBytes;
      if (memoryBytes > QCOW2_BITMAPS_MEMORY_BYTES_MAX) {
        const text = `the bitmaps of the image take more than ${QCOW2_BITMAPS_MEMORY_BYTES_MAX} bytes of memory`;
        throw new EngineError('unsupported', text, { op: 'load-bitmap', offset: entry.tableOffset });
      }
      bitmaps.push(bitmap);
    }
    return bitmaps;
  }

  async #loadOne(entry: BitmapEntry): Promise<DirtyBitmap> {
    const { file, headerFile, refcounts } = this.#context;
    const { header } = headerFile;
    const { name, flags } = entry;
    const granularityBytes = 2 ** entry.granularityBits;
    const usable = (flags & BITMAP_FLAG.inUse) === 0 && hasRightTable(header, entry);
    const recording = usable && (flags & BITMAP_FLAG.auto) !== 0;
    // Of one that cannot be used no bits are held: its size may be anything.
    const sizeBytes = usable ? header.sizeBytes : 0;
    let bitmap = new DirtyBitmap(sizeBytes, { name, granularityBytes, recording, persistent: true });
    try {
      if (usable) await readBitmapBits(file, header, entry, bitmap.bits);
      else bitmap.markInconsistent();
    } catch (error) {
      if (!(error instanceof EngineError) || error.kind !== 'corrupt') throw error;
      bitmap = new DirtyBitmap(0, { name, granularityBytes, recording: false, persistent: true });
      bitmap.markInconsistent();
    }
    bitmap.setReadOnly(refcounts === undefined);
    return bitmap;
  }

  /**
   * Says in the file that the bitmaps do not show what is written from now on, and takes back what the header says of
   * features that are not known here; durable when it resolves. Rejects with `io`.
   */
  async markInUse(): Promise<void> {
    const { file, headerFile } = this.#context;
    await clearPromises(headerFile);
    const place = headerFile.header.bitmaps;
    if (place === undefined || this.#entries.length === 0) return;
    const entries = this.#entries.map(entry =>
      isKnown(entry) ? { ...entry, flags: entry.flags | BITMAP_FLAG.inUse } : entry,
    );
    await file.write(place.directoryOffset, encodeBitmapDirectory(entries));
    await file.flush();
    this.#entries = entries;
  }

  /**
   * Keeps exactly these bitmaps, and what is not known here: the directory goes on in its order, new ones follow.
   * Inconsistent ones stay in use as they are. Durable when it resolves. Rejects with `unsupported` (too many) or
   * `io`: the image has the old ones then.
   */
  async store(bitmaps: readonly DirtyBitmap[]): Promise<void> {
    const { file, headerFile, refcounts, writeBack } = this.#context;
    if (refcounts === undefined) throw new Error('bitmaps of a read-only image are stored');
    const { header } = headerFile;
    const old = this.#entries;
    const foreign = old.filter(entry => !isKnown(entry));
    if (bitmaps.length === 0 && old.length === foreign.length) return;
    if (bitmaps.length + foreign.length > QCOW2_BITMAPS_MAX) {
      const text = `an image keeps ${QCOW2_BITMAPS_MAX} bitmaps, not ${bitmaps.length}`;
      throw new EngineError('unsupported', text, { op: 'store-bitmaps' });
    }
    const kept = new Set<BitmapEntry>(foreign);
    const taken: HostRun[] = [];
    const entries: BitmapEntry[] = [];
    try {
      for (const item of inOrder(old, bitmaps)) {
        if (!(item instanceof DirtyBitmap)) {
          entries.push(item);
          continue;
        }
        const before = old.find(entry => entry.name === item.name && isKnown(entry));
        if (item.inconsistent && before !== undefined) {
          kept.add(before);
          entries.push({ ...before, flags: before.flags | BITMAP_FLAG.inUse });
          continue;
        }
        const { runs, ...place } = await writeBitmapBits(file, header, allBits(item), refcounts);
        taken.push(...runs);
        entries.push({ ...newEntry(item, place), ...(before?.rawName && { rawName: before.rawName }) });
      }
      await this.#replaceDirectory(entries, taken);
    } catch (error) {
      for (const run of taken) await refcounts.free(run).catch(() => undefined);
      throw error;
    }
    const gone = old.filter(entry => !kept.has(entry));
    this.#entries = entries;
    await this.#free(gone, header.bitmaps);
    await writeBack();
  }

  /** Lets the header point to a directory of these; durable when it resolves. */
  async #replaceDirectory(entries: readonly BitmapEntry[], taken: HostRun[]): Promise<void> {
    const { file, headerFile, refcounts, writeBack } = this.#context;
    const { clusterBytes } = headerFile.header;
    if (entries.length === 0) {
      await headerFile.rewrite({ bitmaps: null, fields: { autoclearFeatures: 0n } });
      return;
    }
    const bytes = encodeBitmapDirectory(entries);
    const run = await refcounts!.allocateContiguous(Math.ceil(bytes.length / clusterBytes));
    taken.push(run);
    await file.write(run.offset, bytes);
    await writeBack();
    const bitmaps = { count: entries.length, directoryBytes: bytes.length, directoryOffset: run.offset };
    await headerFile.rewrite({ bitmaps, fields: { autoclearFeatures: AUTOCLEAR.bitmaps } });
  }

  /** Gives back what the entries, and the directory that they were in, occupy. */
  async #free(
    gone: readonly BitmapEntry[],
    directory: { directoryOffset: number; directoryBytes: number } | undefined,
  ): Promise<void> {
    const { file, headerFile, refcounts } = this.#context;
    const { clusterBytes } = headerFile.header;
    for (const entry of gone) {
      // A damaged table leaks what it pointed to: a check gives that back, a guess might take what is in use.
      const table = await readBitmapTable(file, headerFile.header, entry).catch(() => []);
      for (const place of table) {
        const offset = Number(place & BITMAP_TABLE_OFFSET_MASK);
        if (offset !== 0) await refcounts!.free({ offset, count: 1 });
      }
      const count = Math.ceil((entry.tableEntries * TABLE_ENTRY_BYTES) / clusterBytes);
      if (count > 0) await refcounts!.free({ offset: entry.tableOffset, count });
    }
    if (directory === undefined) return;
    const count = Math.ceil(directory.directoryBytes / clusterBytes);
    await refcounts!.free({ offset: directory.directoryOffset, count });
  }
}

/** Entries that are not known here, and bitmaps: in the order of the directory, new ones behind. */
function inOrder(
  old: readonly BitmapEntry[],
  bitmaps: readonly DirtyBitmap[],
): (BitmapEntry | DirtyBitmap)[] {
  const rest = new Map(bitmaps.map(bitmap => [bitmap.name, bitmap]));
  const items: (BitmapEntry | DirtyBitmap)[] = [];
  for (const entry of old) {
    const bitmap = rest.get(entry.name);
    if (!isKnown(entry)) items.push(entry);
    else if (bitmap !== undefined && rest.delete(entry.name)) items.push(bitmap);
  }
  return [...items, ...rest.values()];
}

/** Others are left as they are: their bits may mean anything. */
function isKnown({ type, flags, extraData, granularityBits }: BitmapEntry): boolean {
  const readable = extraData.length === 0 || (flags & BITMAP_FLAG.extraDataCompatible) !== 0;
  const granularityBytes = 2 ** granularityBits;
  const granularityFits =
    granularityBytes >= GRANULARITY_BYTES_MIN && granularityBytes <= GRANULARITY_BYTES_MAX;
  // Extra data belongs to whoever wrote it, and cannot be kept up when the bits are stored anew.
  return type === BITMAP_TYPE_DIRTY_TRACKING && readable && extraData.length === 0 && granularityFits;
}

/** While a job holds it, what is written meanwhile is its successor's. */
function allBits(bitmap: DirtyBitmap): Bitmap {
  if (bitmap.successor === undefined) return bitmap.bits;
  const bits = bitmap.bits.clone();
  bits.merge(bitmap.successor.bits);
  return bits;
}

function newEntry(bitmap: DirtyBitmap, place: { tableOffset: number; tableEntries: number }): BitmapEntry {
  return {
    ...place,
    flags: (bitmap.recording ? BITMAP_FLAG.auto : 0) | (bitmap.inconsistent ? BITMAP_FLAG.inUse : 0),
    type: BITMAP_TYPE_DIRTY_TRACKING,
    granularityBits: Math.log2(bitmap.bits.granularityBytes),
    name: bitmap.name!,
    extraData: Buffer.alloc(0),
  };
}
