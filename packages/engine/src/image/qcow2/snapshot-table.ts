// The snapshot table: the list of internal snapshots, each with an L1 table of its own. Section "Snapshots".
import { EngineError } from '../../errors.ts';
import {
  IMAGE_BYTES_MAX,
  QCOW2_L1_BYTES_MAX,
  QCOW2_SNAPSHOT_EXTRA_BYTES_MAX,
  QCOW2_SNAPSHOT_TABLE_BYTES_MAX,
  QCOW2_SNAPSHOTS_MAX,
} from '../../limits.ts';
import type { BlockNode } from '../../node/block-node.ts';
import { alignUp } from '../../units.ts';
import { SNAPSHOT_ENTRY_BYTES, SNAPSHOT_EXTRA_BYTES, TABLE_ENTRY_BYTES } from './format.ts';
import type { Qcow2Header } from './header.ts';

export interface SnapshotEntry {
  /** Bytes from the start of the file. */
  l1Offset: number;
  l1Entries: number;
  id: string;
  name: string;
  /** Since the epoch. */
  dateSeconds: number;
  dateNanoseconds: number;
  /** How long the guest had been running. */
  vmClockNanoseconds: bigint;
  /** 0 where no machine state belongs to it. */
  vmStateBytes: bigint;
  /** Of the virtual disk; undefined where an old writer did not say: as the image. */
  sizeBytes: number | undefined;
  /** Id and name as they lie in the file, where they came from one: their text may be no UTF-8. */
  raw?: { id: Buffer; name: Buffer };
  /** Extra data that is not known here, which is kept: what follows the fields that are. */
  moreExtra: Buffer;
}

/**
 * Reads the table. `bytes` is its length. Rejects with `invalid-format`, naming the entry and where it lies, or
 * `io`.
 */
export async function readSnapshotTable(
  file: BlockNode,
  header: Qcow2Header,
): Promise<{ entries: SnapshotEntry[]; bytes: number }> {
  const { snapshotCount, snapshotsOffset, clusterBytes } = header;
  if (snapshotCount === 0) return { entries: [], bytes: 0 };
  if (snapshotCount > QCOW2_SNAPSHOTS_MAX) {
    throw malformed(`nb_snapshots ${snapshotCount} is above ${QCOW2_SNAPSHOTS_MAX}`, snapshotsOffset);
  }
  if (snapshotsOffset === 0 || snapshotsOffset % clusterBytes !== 0 || snapshotsOffset >= file.sizeBytes) {
    throw malformed(`snapshots_offset ${snapshotsOffset} is no cluster of the file`, snapshotsOffset);
  }
  const entries: SnapshotEntry[] = [];
  let position = snapshotsOffset;
  for (let index = 0; index < snapshotCount; index++) {
    const head = await readAt(file, position, SNAPSHOT_ENTRY_BYTES, index);
    const extraBytes = head.readUInt32BE(36);
    if (extraBytes > QCOW2_SNAPSHOT_EXTRA_BYTES_MAX) {
      throw malformed(`entry ${index} has ${extraBytes} bytes of extra data`, position + 36);
    }
    const length = extraBytes + head.readUInt16BE(12) + head.readUInt16BE(14);
    const rest = await readAt(file, position + SNAPSHOT_ENTRY_BYTES, length, index);
    entries.push(parseEntry(head, rest, extraBytes, { index, position, header, fileBytes: file.sizeBytes }));
    position += alignUp(SNAPSHOT_ENTRY_BYTES + length, 8);
    if (position - snapshotsOffset > QCOW2_SNAPSHOT_TABLE_BYTES_MAX) {
      throw malformed(`the table is larger than ${QCOW2_SNAPSHOT_TABLE_BYTES_MAX} bytes`, position);
    }
  }
  return { entries, bytes: position - snapshotsOffset };
}

async function readAt(file: BlockNode, offset: number, length: number, index: number): Promise<Buffer> {
  if (offset + length > file.sizeBytes)
    throw malformed(`entry ${index} reaches past the end of the file`, offset);
  const bytes = Buffer.alloc(length);
  await file.read(offset, bytes);
  return bytes;
}

interface EntryPlace {
  index: number;
  position: number;
  header: Qcow2Header;
  fileBytes: number;
}

function parseEntry(head: Buffer, rest: Buffer, extraBytes: number, place: EntryPlace): SnapshotEntry {
  const { index, position, header, fileBytes } = place;
  const l1Offset = head.readBigUInt64BE(0);
  const l1Entries = head.readUInt32BE(8);
  const l1Bytes = l1Entries * TABLE_ENTRY_BYTES;
  const fits = l1Bytes <= QCOW2_L1_BYTES_MAX && l1Offset <= BigInt(Math.max(0, fileBytes - l1Bytes));
  if (!fits || Number(l1Offset) % header.clusterBytes !== 0 || (l1Offset === 0n && l1Entries > 0)) {
    throw malformed(`entry ${index} has an L1 table of ${l1Entries} entries at ${l1Offset}`, position);
  }
  const sizeBytes = extraBytes >= SNAPSHOT_EXTRA_BYTES ? rest.readBigUInt64BE(8) : undefined;
  if (sizeBytes !== undefined && sizeBytes > BigInt(IMAGE_BYTES_MAX)) {
    throw malformed(`entry ${index} is of a disk of ${sizeBytes} bytes`, position + 48);
  }
  const idEnd = extraBytes + head.readUInt16BE(12);
  const id = rest.subarray(extraBytes, idEnd);
  const name = rest.subarray(idEnd, idEnd + head.readUInt16BE(14));
  return {
    l1Offset: Number(l1Offset),
    l1Entries,
    id: id.toString('utf8'),
    name: name.toString('utf8'),
    raw: { id, name },
    dateSeconds: head.readUInt32BE(16),
    dateNanoseconds: head.readUInt32BE(20),
    vmClockNanoseconds: head.readBigUInt64BE(24),
    vmStateBytes: extraBytes >= 8 ? rest.readBigUInt64BE(0) : BigInt(head.readUInt32BE(32)),
    sizeBytes: sizeBytes === undefined ? undefined : Number(sizeBytes),
    moreExtra: rest.subarray(Math.min(SNAPSHOT_EXTRA_BYTES, extraBytes), extraBytes),
  };
}

/** The whole table, as it is to be written; `imageBytes` is the size where an entry does not say one. */
export function encodeSnapshotTable(entries: readonly SnapshotEntry[], imageBytes: number): Buffer {
  return Buffer.concat(entries.map(entry => encodeEntry(entry, imageBytes)));
}

function encodeEntry(entry: SnapshotEntry, imageBytes: number): Buffer {
  const id = entry.raw?.id ?? Buffer.from(entry.id, 'utf8');
  const name = entry.raw?.name ?? Buffer.from(entry.name, 'utf8');
  const extraBytes = SNAPSHOT_EXTRA_BYTES + entry.moreExtra.length;
  const encoded = Buffer.alloc(alignUp(SNAPSHOT_ENTRY_BYTES + extraBytes + id.length + name.length, 8));
  encoded.writeBigUInt64BE(BigInt(entry.l1Offset), 0);
  encoded.writeUInt32BE(entry.l1Entries, 8);
  encoded.writeUInt16BE(id.length, 12);
  encoded.writeUInt16BE(name.length, 14);
  encoded.writeUInt32BE(entry.dateSeconds, 16);
  encoded.writeUInt32BE(entry.dateNanoseconds, 20);
  encoded.writeBigUInt64BE(entry.vmClockNanoseconds, 24);
  encoded.writeUInt32BE(entry.vmStateBytes > 0xffffffffn ? 0 : Number(entry.vmStateBytes), 32);
  encoded.writeUInt32BE(extraBytes, 36);
  encoded.writeBigUInt64BE(entry.vmStateBytes, 40);
  encoded.writeBigUInt64BE(BigInt(entry.sizeBytes ?? imageBytes), 48);
  let position = SNAPSHOT_ENTRY_BYTES + SNAPSHOT_EXTRA_BYTES;
  for (const part of [entry.moreExtra, id, name]) position += part.copy(encoded, position);
  return encoded;
}

function malformed(what: string, offset: number): EngineError {
  return new EngineError('invalid-format', `qcow2 snapshot table at byte ${offset}: ${what}`, {
    op: 'open',
    offset,
  });
}
