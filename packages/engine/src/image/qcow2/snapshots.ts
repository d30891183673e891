// Internal snapshots: make, go to, delete. Section "Snapshots".
//
// A snapshot is a copy of the L1 table whose clusters count once more. Counts and flags cannot change at once:
// while they do, the image is marked dirty (version 3), so that whoever opens it after a power cut counts anew.
// Nothing is in flight, and all metadata is in the file, before and after each of these.
import { EngineError } from '../../errors.ts';
import { QCOW2_SNAPSHOTS_MAX } from '../../limits.ts';
import type { BlockNode } from '../../node/block-node.ts';
import { INCOMPATIBLE, TABLE_ENTRY_BYTES } from './format.ts';
import { l1EntriesFor } from './header.ts';
import type { HeaderFields, HeaderFile } from './header-file.ts';
import { clearCopied, hostOffsetOfEntry, isCopied, kindOfEntry } from './l2-entry.ts';
import { completeLastCluster, readPadded } from './read-padded.ts';
import type { HostRun, Refcounts } from './refcounts.ts';
import { assertL1Fits } from './resize.ts';
import { encodeSnapshotTable, readSnapshotTable, type SnapshotEntry } from './snapshot-table.ts';
import { l2TablesOf, runsOf } from './table-walk.ts';

export interface SnapshotContext {
  file: BlockNode;
  headerFile: HeaderFile;
  refcounts: Refcounts;
  /** Makes all refcounts durable. */
  writeBack: () => Promise<void>;
}

export interface CreateSnapshotOptions {
  /** 1 to 65,535 bytes, as the name; default: the lowest number that is above all others. */
  id?: string;
  name: string;
  /** Since the epoch, in nanoseconds. */
  dateNanoseconds: bigint;
  /** How long the guest has been running. */
  vmClockNanoseconds?: bigint;
}

const NANOSECONDS = 1_000_000_000n;
const NAME_BYTES_MAX = 0xffff;

/** Rejects with `exists` (the id), `invalid-argument`, `unsupported` (a refcount has no room), `corrupt` or `io`. */
export async function createSnapshot(
  context: SnapshotContext,
  options: CreateSnapshotOptions,
): Promise<SnapshotEntry> {
  const { file, headerFile, refcounts } = context;
  const { header } = headerFile;
  const { entries, bytes } = await readSnapshotTable(file, header);
  const entry = newEntry(entries, options, header.sizeBytes);
  const l1 = await readL1(file, header.l1Offset, header.l1Entries);
  await markDirty(context, true);
  const l1Run = await allocate(context, Math.max(TABLE_ENTRY_BYTES, l1.length));
  entry.l1Offset = l1Run.offset;
  entry.l1Entries = header.l1Entries;
  const table = await allocateTable(context, [...entries, entry]);
  try {
    await shareAll(context, l1);
  } catch (error) {
    for (const run of [l1Run, table.run]) await refcounts.free(run);
    await context.writeBack();
    await markDirty(context, false);
    throw error;
  }
  await context.writeBack();
  await clearCopiedFlags(context, l1, header.l1Offset);
  await file.write(entry.l1Offset, l1);
  await file.flush();
  await finish(context, table.fields);
  await freeTable(context, header.snapshotsOffset, bytes);
  return entry;
}

/**
 * Lets the disk be what the snapshot is, its size too; what was written since is gone. To be followed by reading the
 * image anew. Rejects with `corrupt`, `unsupported` or `io`.
 */
export async function applySnapshot(context: SnapshotContext, entry: SnapshotEntry): Promise<void> {
  const { file, headerFile, refcounts } = context;
  const { header } = headerFile;
  const sizeBytes = entry.sizeBytes ?? header.sizeBytes;
  assertL1Fits(header, sizeBytes);
  const l1Entries = Math.max(l1EntriesFor(sizeBytes, header.clusterBytes), entry.l1Entries, 1);
  const old = await readL1(file, header.l1Offset, header.l1Entries);
  const l1 = Buffer.alloc(l1Entries * TABLE_ENTRY_BYTES);
  (await readL1(file, entry.l1Offset, entry.l1Entries)).copy(l1);
  await markDirty(context, true);
  const run = await allocate(context, l1.length);
  try {
    await shareAll(context, l1);
  } catch (error) {
    await refcounts.free(run);
    await context.writeBack();
    await markDirty(context, false);
    throw error;
  }
  await context.writeBack();
  await clearCopiedFlags(context, l1, run.offset);
  await file.flush();
  await headerFile.patch({ l1Offset: run.offset, l1Entries, sizeBytes });
  await freeAll(context, old);
  await refcounts.free(runOf(context, header.l1Offset, old.length));
  await context.writeBack();
  await finish(context, {});
}

/** To be followed by reading the image anew. Rejects with `corrupt` or `io`. */
export async function deleteSnapshot(context: SnapshotContext, entry: SnapshotEntry): Promise<void> {
  const { file, headerFile, refcounts } = context;
  const { header } = headerFile;
  const { entries, bytes } = await readSnapshotTable(file, header);
  const l1 = await readL1(file, entry.l1Offset, entry.l1Entries);
  await markDirty(context, true);
  const table = await allocateTable(
    context,
    entries.filter(({ id }) => id !== entry.id),
  );
  await context.writeBack();
  await headerFile.patch(table.fields);
  await freeAll(context, l1);
  if (l1.length > 0) await refcounts.free(runOf(context, entry.l1Offset, l1.length));
  await freeTable(context, header.snapshotsOffset, bytes);
  await setCopiedFlags(context);
  await finish(context, {});
}

/** By name, else by id, as qemu-img looks for the one to delete. Throws `not-found`. */
export function findSnapshot(entries: readonly SnapshotEntry[], idOrName: string): SnapshotEntry {
  const found = entries.find(({ name }) => name === idOrName) ?? entries.find(({ id }) => id === idOrName);
  if (found !== undefined) return found;
  const hint = 'Look at the list of snapshots.';
  throw new EngineError('not-found', `Snapshot '${idOrName}' does not exist`, { op: 'snapshot', hint });
}

function newEntry(
  entries: readonly SnapshotEntry[],
  options: CreateSnapshotOptions,
  sizeBytes: number,
): SnapshotEntry {
  const highest = Math.max(0, ...entries.map(({ id }) => (/^\d{1,15}$/.test(id) ? Number(id) : 0)));
  const id = options.id ?? String(highest + 1);
  const refuse = (kind: 'exists' | 'invalid-argument', text: string) => {
    throw new EngineError(kind, `cannot make the snapshot '${options.name}': ${text}`, { op: 'snapshot' });
  };
  if (entries.some(entry => entry.id === id)) refuse('exists', `there is one with the id ${id}`);
  if (entries.length >= QCOW2_SNAPSHOTS_MAX)
    refuse('invalid-argument', `there are ${entries.length} already`);
  for (const text of [id, options.name]) {
    const length = Buffer.byteLength(text);
    if (length > NAME_BYTES_MAX) refuse('invalid-argument', `${length} bytes of name or id are too many`);
  }
  return {
    l1Offset: 0,
    l1Entries: 0,
    id,
    name: options.name,
    dateSeconds: Number((options.dateNanoseconds / NANOSECONDS) & 0xffffffffn),
    dateNanoseconds: Number(options.dateNanoseconds % NANOSECONDS),
    vmClockNanoseconds: options.vmClockNanoseconds ?? 0n,
    vmStateBytes: 0n,
    sizeBytes,
    moreExtra: Buffer.alloc(0),
  };
}

async function readL1(file: BlockNode, offset: number, entries: number): Promise<Buffer> {
  const l1 = Buffer.alloc(entries * TABLE_ENTRY_BYTES);
  await readPadded(file, offset, l1);
  return l1;
}

function runOf({ headerFile }: SnapshotContext, offset: number, bytes: number): HostRun {
  return { offset, count: Math.ceil(bytes / headerFile.header.clusterBytes) };
}

function allocate(context: SnapshotContext, bytes: number): Promise<HostRun> {
  return context.refcounts.allocateContiguous(runOf(context, 0, bytes).count);
}

/** Writes a snapshot table, and says what the header has to say of it. */
async function allocateTable(
  context: SnapshotContext,
  entries: readonly SnapshotEntry[],
): Promise<{ run: HostRun; fields: HeaderFields }> {
  if (entries.length === 0) {
    return { run: { offset: 0, count: 0 }, fields: { snapshotCount: 0, snapshotsOffset: 0 } };
  }
  const bytes = encodeSnapshotTable(entries, context.headerFile.header.sizeBytes);
  const run = await allocate(context, bytes.length);
  await context.file.write(run.offset, bytes);
  return { run, fields: { snapshotCount: entries.length, snapshotsOffset: run.offset } };
}

async function freeTable(context: SnapshotContext, offset: number, bytes: number): Promise<void> {
  if (bytes > 0) await context.refcounts.free(runOf(context, offset, bytes));
  await context.writeBack();
}

/** Counts everything that the L1 table leads to once more; or, where a count has no room, nothing. */
async function shareAll(context: SnapshotContext, l1: Buffer): Promise<void> {
  const { file, headerFile, refcounts } = context;
  const counted: HostRun[] = [];
  try {
    for await (const table of l2TablesOf(file, headerFile.header, l1)) {
      for (const run of [{ offset: table.offset, count: 1 }, ...runsOf(headerFile.header, table)]) {
        await refcounts.share(run);
        const last = counted.at(-1);
        const end = last && last.offset + last.count * headerFile.header.clusterBytes;
        if (last !== undefined && end === run.offset) last.count += run.count;
        else counted.push({ ...run });
      }
    }
  } catch (error) {
    for (const run of counted) await refcounts.free(run);
    throw error;
  }
}

async function freeAll({ file, headerFile, refcounts }: SnapshotContext, l1: Buffer): Promise<void> {
  for await (const table of l2TablesOf(file, headerFile.header, l1)) {
    for (const run of runsOf(headerFile.header, table)) await refcounts.free(run);
    await refcounts.free({ offset: table.offset, count: 1 });
  }
}

/** Everything that the L1 table, to be written at `l1Offset`, leads to is shared from now on. */
async function clearCopiedFlags(context: SnapshotContext, l1: Buffer, l1Offset: number): Promise<void> {
  const { file, headerFile } = context;
  for await (const { offset, bytes } of l2TablesOf(file, headerFile.header, l1)) {
    const before = Buffer.from(bytes);
    for (let position = 0; position < bytes.length; position += TABLE_ENTRY_BYTES)
      clearCopied(bytes, position);
    if (!bytes.equals(before)) await file.write(offset, bytes);
  }
  for (let position = 0; position < l1.length; position += TABLE_ENTRY_BYTES) clearCopied(l1, position);
  await file.write(l1Offset, l1);
}

/** Lets the flags of the active tables say what the refcounts do. */
async function setCopiedFlags({ file, headerFile, refcounts }: SnapshotContext): Promise<void> {
  const { header } = headerFile;
  const l1 = await readL1(file, header.l1Offset, header.l1Entries);
  let l1Changed = false;
  for await (const { index, offset, bytes } of l2TablesOf(file, header, l1)) {
    const places: { position: number; host: number }[] = [];
    for (let position = 0; position < bytes.length; position += TABLE_ENTRY_BYTES) {
      const high = bytes.readUInt32BE(position);
      const low = bytes.readUInt32BE(position + 4);
      const kind = kindOfEntry(high, low);
      if (kind !== 'data' && kind !== 'zero-allocated') continue;
      places.push({ position, host: hostOffsetOfEntry(high, low) });
    }
    const counts = await refcounts.countsOf([offset, ...places.map(({ host }) => host)]);
    let changed = false;
    for (const [at, { position }] of places.entries()) {
      changed = setCopied(bytes, position, counts[at + 1] === 1) || changed;
    }
    if (changed) await file.write(offset, bytes);
    l1Changed = setCopied(l1, index * TABLE_ENTRY_BYTES, counts[0] === 1) || l1Changed;
  }
  if (l1Changed) await file.write(header.l1Offset, l1);
}

/** Whether the flag had to change. */
function setCopied(table: Buffer, position: number, copied: boolean): boolean {
  const high = table.readUInt32BE(position);
  if (isCopied(high) === copied) return false;
  table.writeUInt32BE((high ^ 0x80000000) >>> 0, position);
  return true;
}

async function markDirty({ file, headerFile }: SnapshotContext, dirty: boolean): Promise<void> {
  const { version, incompatibleFeatures, clusterBytes } = headerFile.header;
  if (dirty) await completeLastCluster(file, clusterBytes);
  if (version === 2) return;
  const bits = incompatibleFeatures & ~INCOMPATIBLE.dirty;
  await headerFile.patch({ incompatibleFeatures: dirty ? bits | INCOMPATIBLE.dirty : bits });
}

/** Counts and flags agree again: the header says so, and what else is given. */
async function finish({ headerFile, writeBack }: SnapshotContext, fields: HeaderFields): Promise<void> {
  await writeBack();
  const { version, incompatibleFeatures } = headerFile.header;
  const bits = incompatibleFeatures & ~INCOMPATIBLE.dirty;
  await headerFile.patch(version === 2 ? fields : { ...fields, incompatibleFeatures: bits });
}
