// Header extensions: taken apart, put together, and the two that have an inner form of their own. Sections
// "Header extensions", "Feature name table" and "Bitmaps extension".
import { EngineError } from '../../errors.ts';
import {
  BITMAPS_EXTENSION_BYTES,
  EXTENSION,
  EXTENSION_HEAD_BYTES,
  FEATURE_ENTRY_BYTES,
  FEATURE_NAMES,
} from './format.ts';

/** One extension as it lies in the file; what is not known here is kept as it is. */
export interface HeaderExtension {
  type: number;
  data: Buffer;
}

/** Where the bitmap directory lies. */
export interface BitmapsExtension {
  count: number;
  /** Bytes. */
  directoryBytes: number;
  /** Bytes from the start of the file. */
  directoryOffset: number;
}

/**
 * Walks the extensions from `start` up to `end`, where the backing file's name or the cluster ends them.
 * Throws `invalid-format` where one does not fit.
 */
export function parseExtensions(first: Buffer, start: number, end: number): HeaderExtension[] {
  const extensions: HeaderExtension[] = [];
  for (let position = start; position + EXTENSION_HEAD_BYTES <= end; ) {
    const type = first.readUInt32BE(position);
    const length = first.readUInt32BE(position + 4);
    if (type === EXTENSION.end) break;
    const from = position + EXTENSION_HEAD_BYTES;
    if (length > end - from) {
      throw malformed(`header extension 0x${type.toString(16)} of ${length} bytes does not fit`, position);
    }
    extensions.push({ type, data: Buffer.from(first.subarray(from, from + length)) });
    position = from + Math.ceil(length / 8) * 8;
  }
  return extensions;
}

/** The last one of that type, as readers that go on reading have it. */
export function findExtension(extensions: readonly HeaderExtension[], type: number): Buffer | undefined {
  return extensions.findLast(extension => extension.type === type)?.data;
}

export function encodeExtension({ type, data }: HeaderExtension): Buffer {
  const extension = Buffer.alloc(EXTENSION_HEAD_BYTES + Math.ceil(data.length / 8) * 8);
  extension.writeUInt32BE(type, 0);
  extension.writeUInt32BE(data.length, 4);
  data.copy(extension, EXTENSION_HEAD_BYTES);
  return extension;
}

export function encodeFeatureNames(): Buffer {
  const table = Buffer.alloc(FEATURE_NAMES.length * FEATURE_ENTRY_BYTES);
  FEATURE_NAMES.forEach(([type, bit, name], index) => {
    const position = index * FEATURE_ENTRY_BYTES;
    table[position] = type;
    table[position + 1] = bit;
    table.write(name, position + 2, 'latin1');
  });
  return table;
}

/** Names of incompatible features: ours first, then the image's own table, then the bit's number. */
export function featureNames(bits: bigint, table: Buffer | undefined): string[] {
  const names: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if ((bits & (1n << BigInt(bit))) === 0n) continue;
    let name = FEATURE_NAMES.find(entry => entry[0] === 0 && entry[1] === bit)?.[2];
    for (let at = 0; name === undefined && table && at + FEATURE_ENTRY_BYTES <= table.length; ) {
      if (table[at] === 0 && table[at + 1] === bit) {
        name = table.toString('latin1', at + 2, at + FEATURE_ENTRY_BYTES).replace(/[^\x20-\x7e].*$/s, '');
      }
      at += FEATURE_ENTRY_BYTES;
    }
    names.push(name || `incompatible feature bit ${bit}`);
  }
  return names;
}

/** Section "Bitmaps extension". Throws `invalid-format`; the directory itself is looked at when it is read. */
export function parseBitmapsExtension(data: Buffer): BitmapsExtension {
  if (data.length !== BITMAPS_EXTENSION_BYTES) {
    throw malformed(`bitmaps extension has ${data.length} bytes, not ${BITMAPS_EXTENSION_BYTES}`, 0);
  }
  const directoryBytes = data.readBigUInt64BE(8);
  const directoryOffset = data.readBigUInt64BE(16);
  const limit = BigInt(Number.MAX_SAFE_INTEGER);
  if (directoryBytes > limit || directoryOffset > limit) {
    throw malformed(`a bitmap directory of ${directoryBytes} bytes at ${directoryOffset} is not possible`, 0);
  }
  return {
    count: data.readUInt32BE(0),
    directoryBytes: Number(directoryBytes),
    directoryOffset: Number(directoryOffset),
  };
}

export function encodeBitmapsExtension(extension: BitmapsExtension): Buffer {
  const data = Buffer.alloc(BITMAPS_EXTENSION_BYTES);
  data.writeUInt32BE(extension.count, 0);
  data.writeBigUInt64BE(BigInt(extension.directoryBytes), 8);
  data.writeBigUInt64BE(BigInt(extension.directoryOffset), 16);
  return data;
}

function malformed(what: string, offset: number): EngineError {
  return new EngineError('invalid-format', `qcow2 header at byte ${offset}: ${what}`, { op: 'open', offset });
}
