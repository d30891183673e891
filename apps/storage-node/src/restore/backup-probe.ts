// Tells a damaged place of a backup from a repository whose disk is away: of the one all else can be read, of the other
// nothing, and it may be back tomorrow.
import { type BlockNode, isUnreadable } from '@tidemark/engine';
import { CLUSTER_BYTES } from '../sums/sums-format.ts';

type Source = Pick<BlockNode, 'sizeBytes' | 'read' | 'extents'>;

/** Places that are tried, spread over what was not read yet: what was may be in the memory of the repository's host. */
const PLACES = 8;
/** So many failures, with nothing read, are no coincidence. */
const PLACES_MIN = 4;
/** Extents that are looked at to find data behind one place. */
const LOOKS_MAX = 64;

/** Whether the backup can be read elsewhere than around `offset`; true where it has nothing else to be read. */
export async function canBeReadElsewhere(source: Source, offset: number): Promise<boolean> {
  const ahead = { from: offset + CLUSTER_BYTES, to: source.sizeBytes };
  const tried = new Set<number>([offset]);
  if (await readsAny(source, ahead, tried)) return true;
  if (tried.size - 1 >= PLACES_MIN) return false;
  return (await readsAny(source, { from: 0, to: offset }, tried)) || tried.size === 1;
}

async function readsAny(
  source: Source,
  { from, to }: { from: number; to: number },
  tried: Set<number>,
): Promise<boolean> {
  for (let place = 0; place < PLACES && from < to; place++) {
    const at = await dataFrom(source, from + Math.floor(((to - from) / PLACES) * place), to);
    if (at === undefined || tried.has(at)) continue;
    tried.add(at);
    if (await isReadable(source, at)) return true;
  }
  return false;
}

/** Where the next cluster with data begins. */
async function dataFrom(source: Source, offset: number, end: number): Promise<number | undefined> {
  let at = offset - (offset % CLUSTER_BYTES);
  for (let look = 0; look < LOOKS_MAX && at < end; ) {
    for (const extent of await source.extents(at, end - at)) {
      if (!extent.zero) return extent.offset;
      at = extent.offset + extent.length;
      look++;
    }
  }
  return undefined;
}

async function isReadable(source: Source, offset: number): Promise<boolean> {
  try {
    await source.read(offset, Buffer.allocUnsafe(Math.min(CLUSTER_BYTES, source.sizeBytes - offset)));
    return true;
  } catch (error) {
    if (isUnreadable(error)) return false;
    throw error;
  }
}
