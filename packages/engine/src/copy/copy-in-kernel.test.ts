// Goal: where both ends are files the kernel moves the bytes, with the same result as without; where it cannot,
// they come through here. Method: real files, and files that refuse.
import fs from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { EngineError } from '../errors.ts';
import { NodeFile } from '../file/node-file.ts';
import { BlockGraph } from '../graph/block-graph.ts';
import { FileNode } from '../image/file-node.ts';
import { RawImage } from '../image/raw-image.ts';
import type { BlockNode } from '../node/block-node.ts';
import { makeTemporaryFolder } from '../testing/temporary-folder.ts';
import { KiB, MiB } from '../units.ts';
import { BlockCopy } from './block-copy.ts';

const folder = makeTemporaryFolder();
afterAll(() => folder.remove());

const SIZE = 4 * MiB + 5 * KiB;

/** A file that counts what comes through here. */
class WatchedFile extends FileNode {
  bytesRead = 0;
  written = 0;
  override read(offset: number, buffer: Buffer) {
    this.bytesRead += buffer.length;
    return super.read(offset, buffer);
  }
  override write(offset: number, buffer: Buffer) {
    this.written += buffer.length;
    return super.write(offset, buffer);
  }
}

class RefusingFile extends WatchedFile {
  refused = 0;
  override async writeHostRange(): Promise<void> {
    this.refused++;
    throw new EngineError('io', 'Cross-device link', { errno: 'EXDEV' });
  }
}

let files = 0;

async function openFile<T extends FileNode>(
  Kind: new (...of: ConstructorParameters<typeof FileNode>) => T,
  contents: Buffer,
  options: { direct?: boolean } = {},
): Promise<T> {
  const path = folder.file(`file-${files++}`);
  fs.writeFileSync(path, contents);
  return new Kind(await NodeFile.open(path, options));
}

/** Data with zeroes between, of which no two clusters are equal. */
function pattern(): Buffer {
  const data = Buffer.alloc(SIZE);
  for (let at = 0; at < SIZE; at += 4 * KiB) {
    if (at % (MiB / 2) < MiB / 4) data.fill(1 + ((at / (4 * KiB)) % 255), at, Math.min(at + 4 * KiB, SIZE));
  }
  return data;
}

async function copyAll(source: BlockNode, target: BlockNode): Promise<BlockCopy> {
  const copy = new BlockCopy({ source, target, targetIsZero: false, copyRange: true });
  copy.copyBitmap.set(0, source.sizeBytes);
  for (let at = 0; ; ) {
    const piece = await copy.copyNext(at);
    if (piece === undefined) return copy;
    expect(await piece.done).toBeUndefined();
    at = piece.offset + piece.length;
  }
}

describe('the kernel copies', () => {
  test('between files, also through raw windows, and nothing comes through here', async () => {
    const data = pattern();
    const before = Buffer.alloc(MiB, 9);
    const source = await openFile(WatchedFile, data);
    const target = await openFile(WatchedFile, Buffer.concat([before, Buffer.alloc(SIZE, 7), before]));
    const window = RawImage.open(target, { offsetBytes: MiB, sizeBytes: SIZE });
    const copy = await copyAll(RawImage.open(source), window);
    expect(source.bytesRead + target.written).toBe(0);
    expect(copy.doneBytes).toBe(SIZE);
    expect(fs.readFileSync(target.path).equals(Buffer.concat([before, data, before]))).toBe(true);
  });

  test('a guest copy as well', async () => {
    const data = pattern();
    const source = await openFile(WatchedFile, data);
    const target = await openFile(WatchedFile, Buffer.alloc(SIZE));
    const copy = new BlockCopy({
      source,
      target,
      targetIsZero: false,
      copyRange: true,
      clusterBytes: 64 * KiB,
    });
    copy.copyBitmap.set(0, SIZE);
    expect(await copy.copyRange(100 * KiB, 1)).toBeUndefined();
    expect(source.bytesRead).toBe(0);
    const seen = fs.readFileSync(target.path).subarray(64 * KiB, 128 * KiB);
    expect(seen.equals(data.subarray(64 * KiB, 128 * KiB))).toBe(true);
    expect(copy.copyBitmap.dirtyBytes).toBe(Math.ceil(SIZE / (64 * KiB)) * 64 * KiB - 64 * KiB);
  });

  test("the target's bitmaps record it, and one that looks for zeroes gets the bytes", async () => {
    const graph = new BlockGraph();
    const source = await openFile(WatchedFile, pattern());
    const target = await openFile(WatchedFile, Buffer.alloc(SIZE));
    const node = graph.add({ name: 'target' }, () => target);
    const bitmap = node.bitmaps.create({ name: 'seen', granularityBytes: 64 * KiB });
    node.bitmaps.insert(bitmap);
    await copyAll(source, node);
    expect(source.bytesRead).toBe(0);
    expect(bitmap.bits.dirtyBytes).toBe(Math.ceil(SIZE / (64 * KiB)) * 64 * KiB);
    node.setPolicy({ ignoreDiscard: false, detectZeroes: 'unmap' });
    await copyAll(source, node);
    expect(source.bytesRead).toBeGreaterThan(0);
    expect(fs.readFileSync(target.path).equals(pattern())).toBe(true);
  });
});

describe('the bytes come through here', () => {
  test('after the first refusal, and the refused range is copied', async () => {
    const data = pattern();
    const source = await openFile(WatchedFile, data);
    const target = await openFile(RefusingFile, Buffer.alloc(SIZE));
    await copyAll(source, target);
    expect(target.refused).toBe(1);
    expect(fs.readFileSync(target.path).equals(data)).toBe(true);
  });

  test('where a file goes past the page cache', async () => {
    const data = pattern();
    const source = await openFile(WatchedFile, data);
    const target = await openFile(WatchedFile, Buffer.alloc(SIZE), { direct: true });
    await copyAll(source, target);
    expect(source.bytesRead).toBeGreaterThan(0);
    expect(fs.readFileSync(target.path).equals(data)).toBe(true);
  });
});
