// Goal: the digest of checksums is of what they say, wherever the holes of their file are. Method: files with the same
// bytes and different holes, and files that differ in a byte, a place or the size.
import { open, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { FileNode } from '@tidemark/engine';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../testing/temporary-folder.ts';
import { sumsDigest } from './sums-digest.ts';

const MiB = 1024 * 1024;

async function digestOf(
  path: string,
  { sizeBytes, pieces }: { sizeBytes: number; pieces: readonly { at: number; bytes: Buffer }[] },
): Promise<string> {
  const file = await open(path, 'w');
  for (const { at, bytes } of pieces) await file.write(bytes, 0, bytes.length, at);
  await file.close();
  await truncate(path, sizeBytes);
  const node = await FileNode.open(path, { readOnly: true });
  const digest = await sumsDigest(node);
  await node.close();
  return digest;
}

const sizeBytes = 3 * MiB + 512;
const piece = { at: MiB + 100, bytes: Buffer.alloc(5000, 7) };
const last = { at: sizeBytes - 16, bytes: Buffer.alloc(16, 9) };

test('holes do not count, bytes and places do', async () => {
  const folder = await temporaryFolder();
  const sparse = await digestOf(join(folder, 'sparse'), { sizeBytes, pieces: [piece, last] });
  const zeroes = { at: 0, bytes: Buffer.alloc(sizeBytes) };
  expect(await digestOf(join(folder, 'dense'), { sizeBytes, pieces: [zeroes, piece, last] })).toBe(sparse);
  const others = {
    moved: { sizeBytes, pieces: [{ ...piece, at: piece.at + 4096 }, last] },
    longer: { sizeBytes: sizeBytes + 512, pieces: [piece, last] },
    cut: { sizeBytes, pieces: [piece] },
    flipped: { sizeBytes, pieces: [piece, { ...last, bytes: Buffer.alloc(16, 8) }] },
    empty: { sizeBytes, pieces: [] },
  };
  const digests = await Promise.all(
    Object.entries(others).map(([name, file]) => digestOf(join(folder, name), file)),
  );
  expect(new Set([sparse, ...digests]).size).toBe(6);
});

test('what is a hole is not read', async () => {
  const hole = (offset: number, length: number) => [{ offset, length, data: false, zero: true, depth: 1 }];
  const read = () => {
    throw new Error('a hole was read');
  };
  const digest = await sumsDigest({ sizeBytes: 1024 ** 4, extents: hole, read });
  expect(digest).toMatch(/^[0-9a-f]{64}$/);
});
