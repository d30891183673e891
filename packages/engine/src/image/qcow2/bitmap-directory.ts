// The bitmap directory: which bitmaps are stored in the image, and where. Section "Bitmap directory".
import { EngineError } from '../../errors.ts';
import { QCOW2_BITMAP_DIRECTORY_BYTES_MAX, QCOW2_BITMAPS_MAX, QCOW2_L1_BYTES_MAX } from '../../limits.ts';
import type { BlockNode } from '../../node/block-node.ts';
import { alignUp } from '../../units.ts';
import { BITMAP_ENTRY_BYTES, BITMAP_FLAG, TABLE_ENTRY_BYTES } from './format.ts';
import type { Qcow2Header } from './header.ts';

export interface BitmapEntry {
  /** Bytes from the start of the file. */
  tableOffset: number;
  /** One for each cluster of bits. */
  tableEntries: number;
  /** BITMAP_FLAG, and what is not known here. */
  flags: number;
  /** BITMAP_TYPE_DIRTY_TRACKING where it is known here. */
  type: number;
  granularityBits: number;
  name: string;
  /** The name as it lies in the file, where it came from one: it may be no UTF-8. */
  rawName?: Buffer;
  extraData: Buffer;
}

const KNOWN_FLAGS = BITMAP_FLAG.inUse | BITMAP_FLAG.auto | BITMAP_FLAG.extraDataCompatible;

/** Empty where nothing is stored. Rejects with `invalid-format`, naming the entry and where it lies, or `io`. */
export async function readBitmapDirectory(file: BlockNode, header: Qcow2Header): Promise<BitmapEntry[]> {
  const place = header.bitmaps;
  if (place === undefined) return [];
  const { count, directoryBytes, directoryOffset } = place;
  if (count === 0 || count > QCOW2_BITMAPS_MAX) {
    throw malformed(`nb_bitmaps is ${count}, not 1 to ${QCOW2_BITMAPS_MAX}`, directoryOffset);
  }
  const isPlaced = directoryOffset > 0 && directoryOffset % header.clusterBytes === 0;
  const sizeFits =
    directoryBytes <= QCOW2_BITMAP_DIRECTORY_BYTES_MAX && directoryBytes >= count * BITMAP_ENTRY_BYTES;
  if (!isPlaced || !sizeFits || directoryOffset + directoryBytes > file.sizeBytes) {
    throw malformed(
      `a directory of ${directoryBytes} bytes for ${count} bitmaps is not possible`,
      directoryOffset,
    );
  }
  const bytes = Buffer.alloc(directoryBytes);
  await file.read(directoryOffset, bytes);
  return parseDirectory(bytes, { count, directoryOffset, clusterBytes: header.clusterBytes, file });
}

interface DirectoryPlace {
  count: number;
  directoryOffset: number;
  clusterBytes: number;
  file: BlockNode;
}

function parseDirectory(bytes: Buffer, place: DirectoryPlace): BitmapEntry[] {
  const entries: BitmapEntry[] = [];
  const names = new Set<string>();
  let position = 0;
  for (let index = 0; index < place.count; index++) {
    const at = place.directoryOffset + position;
    const refuse = (what: string) => malformed(`entry ${index} ${what}`, at);
    if (position + BITMAP_ENTRY_BYTES > bytes.length) throw refuse('lies past the end of the directory');
    const nameBytes = bytes.readUInt16BE(position + 18);
    const extraBytes = bytes.readUInt32BE(position + 20);
    const end = position + BITMAP_ENTRY_BYTES + extraBytes + nameBytes;
    if (end > bytes.length) throw refuse('reaches past the end of the directory');
    const extraEnd = position + BITMAP_ENTRY_BYTES + extraBytes;
    const tableOffset = bytes.readBigUInt64BE(position);
    const tableEntries = bytes.readUInt32BE(position + 8);
    const flags = bytes.readUInt32BE(position + 12);
    const granularityBits = bytes[position + 17]!;
    const name = bytes.toString('utf8', extraEnd, end);
    if (!tableFits(tableOffset, tableEntries, place)) {
      throw refuse(`has a bitmap table of ${tableEntries} entries at ${tableOffset}`);
    }
    if ((flags & ~KNOWN_FLAGS) !== 0) throw refuse(`has reserved flags: 0x${(flags >>> 0).toString(16)}`);
    if (granularityBits > 63) throw refuse(`has granularity_bits ${granularityBits}`);
    if (nameBytes === 0) throw refuse('has no name');
    if (names.has(name)) throw refuse(`has the name of another one, '${name}'`);
    names.add(name);
    entries.push({
      tableOffset: Number(tableOffset),
      tableEntries,
      flags,
      type: bytes[position + 16]!,
      granularityBits,
      name,
      rawName: bytes.subarray(extraEnd, end),
      extraData: Buffer.from(bytes.subarray(position + BITMAP_ENTRY_BYTES, extraEnd)),
    });
    position = alignUp(end, 8);
  }
  return entries;
}

/** As long as an L1 table at most, which is more than bitmaps of any allowed size need. */
function tableFits(offset: bigint, entries: number, { clusterBytes, file }: DirectoryPlace): boolean {
  const bytes = entries * TABLE_ENTRY_BYTES;
  if (entries === 0) return true;
  if (bytes > QCOW2_L1_BYTES_MAX || offset === 0n || offset % BigInt(clusterBytes) !== 0n) return false;
  return offset + BigInt(bytes) <= BigInt(file.sizeBytes);
}

export function encodeBitmapDirectory(entries: readonly BitmapEntry[]): Buffer {
  return Buffer.concat(entries.map(encodeEntry));
}

function encodeEntry(entry: BitmapEntry): Buffer {
  const name = entry.rawName ?? Buffer.from(entry.name, 'utf8');
  const encoded = Buffer.alloc(alignUp(BITMAP_ENTRY_BYTES + entry.extraData.length + name.length, 8));
  encoded.writeBigUInt64BE(BigInt(entry.tableOffset), 0);
  encoded.writeUInt32BE(entry.tableEntries, 8);
  encoded.writeUInt32BE(entry.flags, 12);
  encoded[16] = entry.type;
  encoded[17] = entry.granularityBits;
  encoded.writeUInt16BE(name.length, 18);
  encoded.writeUInt32BE(entry.extraData.length, 20);
  entry.extraData.copy(encoded, BITMAP_ENTRY_BYTES);
  name.copy(encoded, BITMAP_ENTRY_BYTES + entry.extraData.length);
  return encoded;
}

function malformed(what: string, offset: number): EngineError {
  return new EngineError('invalid-format', `qcow2 bitmap directory at byte ${offset}: ${what}`, {
    op: 'open',
    offset,
  });
}
