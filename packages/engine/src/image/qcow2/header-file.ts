// Changes the header in the file. Fields change in the one sector that holds them all, at once. Extensions and
// the backing file's name may reach over several sectors: they change in steps, each of which leaves a header
// that can be read, whatever a power cut makes of the sectors of the next one.
import { EngineError } from '../../errors.ts';
import type { BlockNode } from '../../node/block-node.ts';
import { alignUp, SECTOR_BYTES } from '../../units.ts';
import { BACKING_NAME_BYTES_MAX, EXTENSION, EXTENSION_HEAD_BYTES, HEADER } from './format.ts';
import { type Qcow2Header, readQcow2Header } from './header.ts';
import {
  type BitmapsExtension,
  encodeBitmapsExtension,
  encodeExtension,
  type HeaderExtension,
} from './header-extensions.ts';
import { SerialQueue } from './serial-queue.ts';

/** Fields that can change in an image. */
export type HeaderFields = Partial<
  Pick<
    Qcow2Header,
    | 'sizeBytes'
    | 'l1Entries'
    | 'l1Offset'
    | 'refcountTableOffset'
    | 'refcountTableClusters'
    | 'snapshotCount'
    | 'snapshotsOffset'
    | 'incompatibleFeatures'
    | 'autoclearFeatures'
  >
>;

export interface HeaderChange {
  fields?: HeaderFields;
  /** `null`: the extension goes. */
  bitmaps?: BitmapsExtension | null;
  /** `null`: the image has none any more. Without a format the extension goes. */
  backing?: { path: string; format: string | undefined } | null;
}

const WIDE = ['sizeBytes', 'l1Offset', 'refcountTableOffset', 'snapshotsOffset'] as const;
const NARROW = ['l1Entries', 'refcountTableClusters', 'snapshotCount'] as const;
const FEATURES = ['incompatibleFeatures', 'autoclearFeatures'] as const;
const PLACE = {
  sizeBytes: HEADER.size,
  l1Offset: HEADER.l1TableOffset,
  refcountTableOffset: HEADER.refcountTableOffset,
  snapshotsOffset: HEADER.snapshotsOffset,
  l1Entries: HEADER.l1Size,
  refcountTableClusters: HEADER.refcountTableClusters,
  snapshotCount: HEADER.snapshotCount,
  incompatibleFeatures: HEADER.incompatibleFeatures,
  autoclearFeatures: HEADER.autoclearFeatures,
} as const;

export class HeaderFile {
  readonly #file: BlockNode;
  readonly #queue = new SerialQueue();
  #header: Qcow2Header;

  constructor(file: BlockNode, header: Qcow2Header) {
    this.#file = file;
    this.#header = header;
  }

  /** As the file has it. */
  get header(): Qcow2Header {
    return this.#header;
  }

  /** Durable, and all that was written before, when it resolves. Rejects with `io`: old or new fields hold. */
  patch(fields: HeaderFields): Promise<void> {
    return this.#queue.run(async () => {
      const sector = Buffer.alloc(SECTOR_BYTES);
      await this.#file.read(0, sector);
      putFields(sector, fields);
      await this.#writeDurably(0, sector);
      this.#header = { ...this.#header, ...fields };
    });
  }

  /** As `patch`; rejects with `invalid-argument` where the header does not fit its cluster. */
  rewrite(change: HeaderChange): Promise<void> {
    return this.#queue.run(() => this.#rewrite(change));
  }

  async #rewrite(change: HeaderChange): Promise<void> {
    // Somebody else may have named another backing image meanwhile.
    this.#header = await readQcow2Header(this.#file);
    const old = Buffer.alloc(this.#header.clusterBytes);
    await this.#file.read(0, old.subarray(0, Math.min(old.length, this.#file.sizeBytes)));
    const { header, cluster } = encode(this.#header, old, change);
    const sector = cluster.subarray(0, SECTOR_BYTES);
    if (cluster.subarray(SECTOR_BYTES).equals(old.subarray(SECTOR_BYTES)))
      await this.#writeDurably(0, sector);
    else await this.#replace(old, cluster, header);
    this.#header = header;
  }

  /** While what lies behind the first sector changes, the extensions end within the first. */
  async #replace(old: Buffer, cluster: Buffer, header: Qcow2Header): Promise<void> {
    const sector = cluster.subarray(0, SECTOR_BYTES);
    const short = cutShort(cluster, header);
    await this.#writeDurably(0, cutShort(old, this.#header));
    // The old name stays where it is until the first sector points to the new one.
    const { backingOffset, backingPath = '' } = this.#header;
    const between = Buffer.from(cluster);
    const nameFrom = Math.max(SECTOR_BYTES, backingOffset);
    old.copy(between, nameFrom, nameFrom, Math.max(nameFrom, backingOffset + Buffer.byteLength(backingPath)));
    await this.#writeDurably(SECTOR_BYTES, between.subarray(SECTOR_BYTES));
    await this.#writeDurably(0, short);
    if (!between.equals(cluster)) await this.#writeDurably(SECTOR_BYTES, cluster.subarray(SECTOR_BYTES));
    if (!short.equals(sector)) await this.#writeDurably(0, sector);
  }

  async #writeDurably(offset: number, bytes: Buffer): Promise<void> {
    await this.#file.flush();
    await this.#file.write(offset, bytes);
    await this.#file.flush();
  }
}

/** The first sector, with those extensions only that lie in it as a whole. */
function cutShort(cluster: Buffer, { extensions, headerBytes }: Qcow2Header): Buffer {
  const sector = Buffer.from(cluster.subarray(0, SECTOR_BYTES));
  let position = headerBytes;
  for (const extension of extensions) {
    const next = position + EXTENSION_HEAD_BYTES + alignUp(extension.data.length, 8);
    if (next + EXTENSION_HEAD_BYTES > SECTOR_BYTES) {
      sector.fill(0, position, Math.min(position + EXTENSION_HEAD_BYTES, SECTOR_BYTES));
      return sector;
    }
    position = next;
  }
  return sector;
}

function putFields(sector: Buffer, fields: HeaderFields): void {
  for (const name of WIDE) {
    const value = fields[name];
    if (value !== undefined) sector.writeBigUInt64BE(BigInt(value), PLACE[name]);
  }
  for (const name of NARROW) {
    const value = fields[name];
    if (value !== undefined) sector.writeUInt32BE(value, PLACE[name]);
  }
  // Version 2 has none: its header ends before them, and nobody sets any.
  for (const name of FEATURES) {
    const value = fields[name];
    if (value !== undefined) sector.writeBigUInt64BE(value, PLACE[name]);
  }
}

/** The first cluster as it is to be. Fields and extensions that are not known here stay. */
function encode(
  header: Qcow2Header,
  old: Buffer,
  change: HeaderChange,
): { header: Qcow2Header; cluster: Buffer } {
  const backing = change.backing === undefined ? currentBacking(header) : (change.backing ?? undefined);
  const name = Buffer.from(backing?.path ?? '', 'utf8');
  let extensions = nextExtensions(header, change, backing?.format);
  // The names of features are a courtesy: in a tiny cluster all else comes first.
  if (sizeOf(header, extensions) + name.length > old.length) {
    extensions = extensions.filter(({ type }) => type !== EXTENSION.featureNames);
  }
  const cluster = Buffer.alloc(old.length);
  old.copy(cluster, 0, 0, header.headerBytes);
  putFields(cluster, change.fields ?? {});
  let position = header.headerBytes;
  for (const extension of [...extensions, { type: EXTENSION.end, data: Buffer.alloc(0) }]) {
    position += encodeExtension(extension).copy(cluster, position);
  }
  const encodedBytes = sizeOf(header, extensions);
  const nameAt = backing === undefined ? 0 : placeName(header, encodedBytes, name);
  if (
    encodedBytes > old.length ||
    name.length > BACKING_NAME_BYTES_MAX ||
    nameAt + name.length > old.length
  ) {
    const text = `the header of ${encodedBytes} bytes and a backing file's name of ${name.length} do not fit`;
    throw new EngineError('invalid-argument', `qcow2: ${text} a cluster of ${old.length} bytes`, {
      op: 'update',
    });
  }
  name.copy(cluster, nameAt);
  cluster.writeBigUInt64BE(BigInt(nameAt), HEADER.backingFileOffset);
  cluster.writeUInt32BE(name.length, HEADER.backingFileSize);
  const bitmaps = change.bitmaps === undefined ? header.bitmaps : (change.bitmaps ?? undefined);
  const next = { ...header, ...change.fields, extensions, bitmaps, backingOffset: nameAt };
  return { header: { ...next, backingPath: backing?.path, backingFormat: backing?.format }, cluster };
}

/** Bytes of the header with these extensions and their end. */
function sizeOf({ headerBytes }: Qcow2Header, extensions: readonly HeaderExtension[]): number {
  const lengths = extensions.map(({ data }) => EXTENSION_HEAD_BYTES + alignUp(data.length, 8));
  return lengths.reduce((sum, length) => sum + length, headerBytes + EXTENSION_HEAD_BYTES);
}

function currentBacking(header: Qcow2Header): { path: string; format: string | undefined } | undefined {
  const { backingPath, backingFormat } = header;
  return backingPath === undefined ? undefined : { path: backingPath, format: backingFormat };
}

/** Short ones that this engine changes come first: they then lie in the first sector in most images. */
function nextExtensions(
  header: Qcow2Header,
  change: HeaderChange,
  backingFormat: string | undefined,
): HeaderExtension[] {
  const bitmaps = change.bitmaps === undefined ? header.bitmaps : change.bitmaps;
  const own: readonly number[] = [EXTENSION.backingFormat, EXTENSION.bitmaps];
  const rest = header.extensions.filter(({ type }) => !own.includes(type));
  const extensions: HeaderExtension[] = [];
  if (backingFormat !== undefined)
    extensions.push({ type: EXTENSION.backingFormat, data: Buffer.from(backingFormat) });
  if (bitmaps) extensions.push({ type: EXTENSION.bitmaps, data: encodeBitmapsExtension(bitmaps) });
  return [...extensions, ...rest];
}

/** Behind the extensions, not over the name as it lies now: that one holds until the first sector has changed. */
function placeName(header: Qcow2Header, extensionsEnd: number, name: Buffer): number {
  const { backingOffset, backingPath, clusterBytes } = header;
  if (backingPath === undefined || backingOffset < SECTOR_BYTES) {
    // A name that begins in the first sector may go on in the next: then past all of it.
    const end = backingOffset + Buffer.byteLength(backingPath ?? '');
    const free = end > SECTOR_BYTES ? Math.max(extensionsEnd, alignUp(end, 8)) : extensionsEnd;
    return free + name.length <= clusterBytes ? free : extensionsEnd;
  }
  const oldEnd = backingOffset + Buffer.byteLength(backingPath);
  if (name.equals(Buffer.from(backingPath, 'utf8')) && extensionsEnd <= backingOffset) return backingOffset;
  if (extensionsEnd + name.length <= backingOffset) return extensionsEnd;
  const after = Math.max(alignUp(oldEnd, 8), extensionsEnd);
  return after + name.length <= clusterBytes ? after : extensionsEnd;
}
