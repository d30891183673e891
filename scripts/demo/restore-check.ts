// Judges one restored disk against what is known of its source: the hashes taken at a quiet moment, and what
// the writer did around the point in time.

import { ConsistencyCheck, type Fault } from './consistency-check.ts';
import { DiskHash, outside } from './disk-hash.ts';
import { type DiskReader, scanDisk } from './disk-reader.ts';
import { type Range, REGION_BYTES } from './layout.ts';
import type { Instant, WriteHistory } from './write-history.ts';

/** What a restore of one checkpoint must be. */
export interface Expectation {
  readonly checkpoint: string;
  /** Of the source, at a quiet moment before the point in time. */
  readonly hashes: DiskHash;
  /** Where the writer wrote around the instant; null when nothing did: then the whole disk must be equal. */
  readonly written: Range | null;
  readonly region: Range;
  readonly instant: Instant;
  /** A copy of the disk's beginning as it was, to name the very bytes that differ; null when there is none. */
  readonly beginning: { open(): Promise<DiskReader> } | null;
}

export interface Verdict {
  readonly faults: Fault[];
  /** Bytes compared by hash. */
  readonly comparedBytes: number;
  readonly demandedWrites: number;
  readonly forbiddenWrites: number;
}

/** Reads the restored disk once. The history's writer has stopped. */
export async function checkRestore(
  restored: DiskReader,
  expectation: Expectation,
  history: WriteHistory,
  signal?: AbortSignal,
): Promise<Verdict> {
  const { hashes, written, region, instant } = expectation;
  if (restored.sizeBytes < hashes.sizeBytes) return tooShort(restored, hashes);
  const found = new DiskHash(restored.sizeBytes);
  const check = new ConsistencyCheck(history, instant, region);
  await scanDisk(
    restored,
    (offset, bytes) => {
      found.take(offset, bytes);
      check.take(offset, bytes);
    },
    signal,
  );
  const differing = hashes.differences(found);
  const wrong = written === null ? differing : outside(differing, written);
  const { faults, demanded, forbidden } = check.judge();
  const named = await nameBytes(wrong, restored, expectation);
  return {
    faults: [...named, ...faults].sort((a, b) => a.offset - b.offset),
    comparedBytes: hashes.sizeBytes - (written?.length ?? 0),
    demandedWrites: demanded,
    forbiddenWrites: forbidden,
  };
}

function tooShort(restored: DiskReader, hashes: DiskHash): Verdict {
  const fault = {
    offset: restored.sizeBytes,
    length: hashes.sizeBytes - restored.sizeBytes,
    expected: `a disk of ${hashes.sizeBytes} bytes`,
    found: `one that ends at ${restored.sizeBytes}`,
  };
  return { faults: [fault], comparedBytes: 0, demandedWrites: 0, forbiddenWrites: 0 };
}

/** The ranges as faults: the first differing bytes where a copy of the source is at hand, else each range. */
async function nameBytes(wrong: Range[], restored: DiskReader, expectation: Expectation): Promise<Fault[]> {
  const copy = (await expectation.beginning?.open()) ?? null;
  try {
    const faults: Fault[] = [];
    for (const range of wrong) {
      const exact = copy === null ? null : await firstDifference(range, restored, copy);
      faults.push(
        exact ?? {
          ...range,
          expected: `the source as hashed before ${expectation.checkpoint}`,
          found: 'other bytes',
        },
      );
    }
    return faults;
  } finally {
    await copy?.close();
  }
}

/** Where the two first differ within the range, up to the next equal byte. Null beyond the copy's end. */
async function firstDifference(range: Range, restored: DiskReader, copy: DiskReader): Promise<Fault | null> {
  const end = Math.min(range.offset + range.length, copy.sizeBytes);
  const [found, expected] = [Buffer.alloc(REGION_BYTES), Buffer.alloc(REGION_BYTES)];
  for (let offset = range.offset; offset < end; offset += REGION_BYTES) {
    const length = Math.min(REGION_BYTES, end - offset);
    await restored.read(offset, found.subarray(0, length));
    await copy.read(offset, expected.subarray(0, length));
    if (found.compare(expected, 0, length, 0, length) === 0) continue;
    const first = found.findIndex((byte, at) => byte !== expected[at]);
    let last = first;
    while (last + 1 < length && found[last + 1] !== expected[last + 1]) last += 1;
    const bytes = (buffer: Buffer) => hexadecimal(buffer.subarray(first, last + 1));
    return {
      offset: offset + first,
      length: last + 1 - first,
      expected: bytes(expected),
      found: bytes(found),
    };
  }
  return null;
}

const BYTES_SAID_MAX = 8;

function hexadecimal(bytes: Buffer): string {
  const said = bytes.subarray(0, BYTES_SAID_MAX).toString('hex');
  return `0x${said}${bytes.length > BYTES_SAID_MAX ? '…' : ''}`;
}
