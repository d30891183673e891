// What `info` tells of an image.
import type { Qcow2Header, Qcow2Image } from '@tidemark/engine';
import { beside, type Layer } from './layers.ts';
import { humanSize } from './sizes.ts';
import { describeSnapshot, type SnapshotFacts, snapshotLines } from './snapshot-list.ts';

/** Bits of the header's feature fields. */
const DIRTY = 1n;
const CORRUPT = 2n;
const LAZY_REFCOUNTS = 1n;

type Facts = Record<string, unknown>;

/** In the order in which qemu-img shows them. */
export async function describeImage({ name, format, file, header, image, disk }: Layer): Promise<Facts> {
  const backing = header?.backingPath;
  const snapshots = (await image?.snapshots()) ?? [];
  return {
    ...(snapshots.length > 0 && { snapshots: snapshots.map(describeSnapshot) }),
    'backing-filename-format': header?.backingFormat,
    'virtual-size': disk.sizeBytes,
    filename: name,
    'cluster-size': header?.clusterBytes,
    format,
    'actual-size': await file.allocatedBytes(),
    ...(header && { 'format-specific': { type: 'qcow2', data: describeQcow2(header, image!) } }),
    ...(backing !== undefined && { 'full-backing-filename': beside(name, backing) }),
    'backing-filename': backing,
    'dirty-flag': ((header?.incompatibleFeatures ?? 0n) & DIRTY) !== 0n,
  };
}

function describeQcow2(header: Qcow2Header, image: Qcow2Image): Facts {
  const { version, compressionType, refcountOrder } = header;
  const refcounts = { 'refcount-bits': 2 ** refcountOrder };
  if (version === 2) return { compat: '0.10', 'compression-type': compressionType, ...refcounts };
  const bitmaps = image.storedBitmaps.map(({ name, granularityBytes, inUse, auto }) => ({
    flags: [...(inUse ? ['in-use'] : []), ...(auto ? ['auto'] : [])],
    name,
    granularity: granularityBytes,
  }));
  return {
    compat: '1.1',
    'compression-type': compressionType,
    'lazy-refcounts': (header.compatibleFeatures & LAZY_REFCOUNTS) !== 0n,
    ...(bitmaps.length > 0 && { bitmaps }),
    ...refcounts,
    corrupt: (header.incompatibleFeatures & CORRUPT) !== 0n,
    'extended-l2': false,
  };
}

/** The same as lines for people. */
export function imageLines(facts: Facts): string[] {
  const size = facts['virtual-size'] as number;
  const backing = facts['backing-filename'];
  const full = facts['full-backing-filename'];
  const lines = [
    `image: ${facts.filename}`,
    `file format: ${facts.format}`,
    `virtual size: ${humanSize(size)} (${size} bytes)`,
    `disk size: ${humanSize(facts['actual-size'] as number)}`,
  ];
  if (facts['cluster-size'] !== undefined) lines.push(`cluster_size: ${facts['cluster-size']}`);
  if (facts['dirty-flag'] === true) lines.push('cleanly shut down: no');
  if (backing !== undefined) {
    lines.push(`backing file: ${backing}${full === backing ? '' : ` (actual path: ${full})`}`);
  }
  if (facts['backing-filename-format'] !== undefined) {
    lines.push(`backing file format: ${facts['backing-filename-format']}`);
  }
  const snapshots = (facts.snapshots ?? []) as readonly SnapshotFacts[];
  lines.push(...snapshotLines(snapshots));
  const specific = facts['format-specific'] as { data: Facts } | undefined;
  if (specific !== undefined) lines.push('Format specific information:', ...valueLines(specific.data, 1));
  return lines;
}

function valueLines(value: object, depth: number): string[] {
  const blanks = '    '.repeat(depth);
  const isList = Array.isArray(value);
  return Object.entries(value).flatMap(([key, member]) => {
    const label = isList ? `[${key}]` : key.replaceAll('-', ' ');
    if (typeof member !== 'object' || member === null) return [`${blanks}${label}: ${member}`];
    return [`${blanks}${label}:`, ...valueLines(member, depth + 1)];
  });
}
