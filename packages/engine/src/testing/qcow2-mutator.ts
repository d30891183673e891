// Damages qcow2 images on purpose, where it hurts: fields of the header, entries of tables, counts, the snapshot table
// and the bitmap directory, each with values that a careless reader would stumble over; some bytes anywhere, too.
import type { SeededRandom } from './seeded-random.ts';

/** Where an image's structures lie. */
interface Structures {
  clusterBytes: number;
  /** Offsets of 8-byte entries. */
  tables: number[];
  /** Offsets of refcount blocks. */
  blocks: number[];
  snapshots: number;
  bitmaps: number;
}

const OFFSET_MASK = 0x00fffffffffffe00n;
const FIELDS_32 = [4, 16, 20, 32, 36, 56, 60, 96, 100];
const FIELDS_64 = [8, 24, 40, 48, 64, 72, 80, 88];

/** A damaged copy of a good image. */
export function mutateQcow2(good: Buffer, random: SeededRandom): Buffer {
  const places = findStructures(good);
  let image: Buffer = Buffer.from(good);
  for (let count = random.int(1, 4); count > 0; count--) {
    const dice = random.int(0, 19);
    if (dice < 4) mutateHeader(image, random);
    else if (dice < 5) mutateBytes(image, random, places.clusterBytes);
    else if (dice < 11) mutateEntry(image, random, random.pick(places.tables));
    else if (dice < 13) mutateCounts(image, random, random.pick(places.blocks));
    else if (dice < 15 && places.snapshots > 0) mutateStructure(image, random, places.snapshots, 120);
    else if (dice < 18 && places.bitmaps > 0) mutateStructure(image, random, places.bitmaps, 96);
    else if (dice < 19) mutateBytes(image, random, image.length);
    else image = cut(image, random);
  }
  return image;
}

function findStructures(image: Buffer): Structures {
  const clusterBytes = 2 ** image.readUInt32BE(20);
  const tables: number[] = [];
  const blocks: number[] = [];
  const offsetAt = (position: number) => Number(image.readBigUInt64BE(position) & OFFSET_MASK);
  const addL1 = (offset: number, entries: number) => {
    for (let at = offset; at < offset + entries * 8; at += 8) {
      tables.push(at);
      const l2 = offsetAt(at);
      for (let entry = l2; l2 > 0 && entry < l2 + clusterBytes; entry += 8) {
        if (image.readBigUInt64BE(entry) !== 0n) tables.push(entry);
      }
    }
  };
  addL1(offsetAt(40), image.readUInt32BE(36));
  const snapshots = offsetAt(64);
  if (image.readUInt32BE(60) > 0) addL1(offsetAt(snapshots), image.readUInt32BE(snapshots + 8));
  const table = offsetAt(48);
  for (let at = table; at < table + image.readUInt32BE(56) * clusterBytes; at += 8) {
    if (offsetAt(at) === 0) continue;
    tables.push(at);
    blocks.push(offsetAt(at));
  }
  const bitmaps = findDirectory(image);
  if (bitmaps > 0) for (let at = offsetAt(bitmaps); at < offsetAt(bitmaps) + 16; at += 8) tables.push(at);
  return { clusterBytes, tables, blocks, snapshots, bitmaps };
}

/** 0 where there are no bitmaps. */
function findDirectory(image: Buffer): number {
  for (let at = image.readUInt32BE(4) === 2 ? 72 : image.readUInt32BE(100); ; ) {
    const type = image.readUInt32BE(at);
    if (type === 0) return 0;
    if (type === 0x23852875) return Number(image.readBigUInt64BE(at + 24));
    at += 8 + Math.ceil(image.readUInt32BE(at + 4) / 8) * 8;
  }
}

function mutateHeader(image: Buffer, random: SeededRandom): void {
  if (random.chance(0.5)) {
    const at = random.pick(FIELDS_32);
    image.writeUInt32BE(number32(image.readUInt32BE(at), random), at);
  } else {
    const at = random.pick(FIELDS_64);
    image.writeBigUInt64BE(number64(image, image.readBigUInt64BE(at), random), at);
  }
}

function number32(old: number, random: SeededRandom): number {
  const near = (old + random.int(-2, 2)) >>> 0;
  return random.pick([0, 1, 2, 9, 21, 22, 31, 63, 0x7fffffff, 0xffffffff, near, near, random.uint32()]);
}

function number64(image: Buffer, old: bigint, random: SeededRandom): bigint {
  const clusterBytes = 2 ** (9 + (image.readUInt32BE(20) % 8));
  const inside = BigInt(Math.floor(random.int(0, image.length) / clusterBytes) * clusterBytes);
  const flipped = old ^ (1n << BigInt(random.int(0, 63)));
  const near = BigInt.asUintN(64, old + BigInt(random.int(-2, 2)) * BigInt(clusterBytes));
  const flags = old & ~OFFSET_MASK;
  return random.pick([
    0n,
    1n,
    inside,
    inside | flags,
    inside | (1n << 63n),
    inside | (1n << 62n),
    near,
    flipped,
    flipped,
    BigInt(image.length),
    (1n << 63n) - 1n,
    (1n << 64n) - 1n,
    (BigInt(random.uint32()) << 32n) | BigInt(random.uint32()),
  ]);
}

function mutateEntry(image: Buffer, random: SeededRandom, at: number): void {
  if (at + 8 > image.length) return;
  image.writeBigUInt64BE(number64(image, image.readBigUInt64BE(at), random), at);
}

function mutateCounts(image: Buffer, random: SeededRandom, block: number): void {
  for (let count = random.int(1, 8); count > 0; count--) {
    const at = block + random.int(0, 63);
    if (at < image.length) image[at] = random.pick([0, 1, 2, 0xff, random.int(0, 255)]);
  }
}

/** Fields of entries of variable length: any of their bytes, as small, large or other numbers. */
function mutateStructure(image: Buffer, random: SeededRandom, start: number, length: number): void {
  const at = start + random.int(0, length / 4 - 1) * 4;
  if (at + 8 > image.length) return;
  if (random.chance(0.6)) image.writeUInt32BE(number32(image.readUInt32BE(at), random), at);
  else if (random.chance(0.5)) image.writeUInt16BE(number32(0, random) & 0xffff, at + random.pick([0, 2]));
  else image.writeBigUInt64BE(number64(image, image.readBigUInt64BE(at), random), at);
}

function mutateBytes(image: Buffer, random: SeededRandom, end: number): void {
  for (let count = random.int(1, 16); count > 0; count--) {
    image[random.int(0, Math.min(end, image.length) - 1)] = random.int(0, 255);
  }
}

/** Cut off in the middle, or longer than it was. */
function cut(image: Buffer, random: SeededRandom): Buffer {
  if (random.chance(0.3)) return Buffer.concat([image, random.bytes(random.int(1, 9000))]);
  return Buffer.from(image.subarray(0, Math.max(1024, random.int(0, image.length))));
}
