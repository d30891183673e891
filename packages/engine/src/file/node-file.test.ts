// Goal: the file layer keeps its contract on a real filesystem. Method: temporary files, no doubles.
import fs from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { EngineError } from '../errors.ts';
import { makeTemporaryFolder } from '../testing/temporary-folder.ts';
import { GiB, KiB, MiB, TiB } from '../units.ts';
import { NodeFile } from './node-file.ts';
import { fallocate } from './syscalls.ts';

const folder = makeTemporaryFolder();
afterAll(() => folder.remove());

async function kindOf(promise: Promise<unknown>): Promise<EngineError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(EngineError);
  return error as EngineError;
}

describe('opening', () => {
  test('creates a sparse file of the size asked for, once', async () => {
    const path = folder.file('new');
    const file = await NodeFile.open(path, { create: 'exclusive', sizeBytes: 2 * TiB });
    expect(file.sizeBytes).toBe(2 * TiB);
    expect(await file.allocatedBytes()).toBeLessThan(64 * KiB);
    await file.close();
    const error = await kindOf(NodeFile.open(path, { create: 'exclusive' }));
    expect(error.kind).toBe('exists');
    expect(fs.statSync(path).size).toBe(2 * TiB);
  });

  test('names the path of a file that is not there', async () => {
    const error = await kindOf(NodeFile.open(folder.file('absent')));
    expect(error.kind).toBe('not-found');
    expect(error.message).toContain(folder.file('absent'));
  });

  test('refuses a folder', async () => {
    expect((await kindOf(NodeFile.open(folder.path, { readOnly: true }))).kind).toBe('unsupported');
  });

  test('a writer excludes everybody, readers share', async () => {
    const path = folder.file('locked');
    const writer = await NodeFile.open(path, { create: 'exclusive', sizeBytes: 4096 });
    const refused = await kindOf(NodeFile.open(path));
    expect(refused.kind).toBe('busy');
    expect(refused.message).toContain(path);
    expect((await kindOf(NodeFile.open(path, { readOnly: true }))).kind).toBe('busy');
    await writer.close();
    const one = await NodeFile.open(path, { readOnly: true });
    const two = await NodeFile.open(path, { readOnly: true });
    expect((await kindOf(NodeFile.open(path))).kind).toBe('busy');
    await one.close();
    await two.close();
  });
});

describe('data', () => {
  test('small cached reads are done on the spot, large ones in the pool, both beyond 4 GiB', async () => {
    const file = await NodeFile.open(folder.file('data'), { create: 'exclusive', sizeBytes: 8 * GiB });
    const data = Buffer.alloc(256 * KiB, 0x5a);
    await file.write(5 * GiB + 512, data);
    const small = Buffer.alloc(4096);
    const pending = file.read(5 * GiB + 512, small);
    expect(pending).toBeUndefined();
    expect(small.equals(data.subarray(0, 4096))).toBe(true);
    const large = Buffer.alloc(256 * KiB);
    const waiting = file.read(5 * GiB + 512, large);
    expect(waiting).toBeInstanceOf(Promise);
    await waiting;
    expect(large.equals(data)).toBe(true);
    await file.close();
  });

  test('reads zeroes past the end of the file', async () => {
    const file = await NodeFile.open(folder.file('short'), { create: 'exclusive', sizeBytes: 0 });
    await file.write(0, Buffer.alloc(1000, 1));
    const buffer = Buffer.alloc(2000, 0xee);
    await file.read(0, buffer);
    expect(buffer.subarray(0, 1000).every(byte => byte === 1)).toBe(true);
    expect(buffer.subarray(1000).every(byte => byte === 0)).toBe(true);
    buffer.fill(0xee);
    await file.read(MiB, buffer);
    expect(buffer.every(byte => byte === 0)).toBe(true);
    await file.close();
  });

  test('punching gives space back, zeroing without it keeps the content zero', async () => {
    const file = await NodeFile.open(folder.file('holes'), { create: 'exclusive', sizeBytes: 4 * MiB });
    await file.write(0, Buffer.alloc(4 * MiB, 3));
    await file.flush();
    const full = await file.allocatedBytes();
    await file.writeZeroes(0, MiB, { mayUnmap: true });
    await file.writeZeroes(MiB, MiB, { mayUnmap: false });
    await file.discard(2 * MiB, MiB);
    expect(full - (await file.allocatedBytes())).toBeGreaterThanOrEqual(2 * MiB);
    const buffer = Buffer.alloc(4 * MiB);
    await file.read(0, buffer);
    expect(buffer.subarray(0, 3 * MiB).every(byte => byte === 0)).toBe(true);
    expect(buffer.subarray(3 * MiB).every(byte => byte === 3)).toBe(true);
    await file.close();
  });

  test('finds data and holes', async () => {
    const file = await NodeFile.open(folder.file('extents'), { create: 'exclusive', sizeBytes: 6 * GiB });
    await file.write(5 * GiB, Buffer.alloc(MiB, 3));
    expect(file.extents(0, 6 * GiB)).toEqual([
      { offset: 0, length: 5 * GiB, data: false, zero: true, depth: 1 },
      { offset: 5 * GiB, length: MiB, data: true, zero: false, depth: 1 },
      { offset: 5 * GiB + MiB, length: GiB - MiB, data: false, zero: true, depth: 1 },
    ]);
    await file.close();
  });

  test('a closed file refuses, whoever has its number now', async () => {
    const file = await NodeFile.open(folder.file('closed'), { create: 'exclusive', sizeBytes: 4096 });
    await file.close();
    const other = await NodeFile.open(folder.file('other'), { create: 'exclusive', sizeBytes: 4096 });
    const error = await kindOf(file.write(0, Buffer.alloc(512, 1)));
    expect(error.context).toMatchObject({ op: 'write', errno: 'EBADF', offset: 0, length: 512 });
    expect((await kindOf(Promise.resolve(file.read(0, Buffer.alloc(512))))).context.errno).toBe('EBADF');
    await other.close();
  });
});

test('failures of calls in the pool keep their own errno', async () => {
  const path = folder.file('errno');
  fs.writeFileSync(path, 'x');
  const readOnly = fs.openSync(path, 'r');
  const results = await Promise.allSettled([
    fallocate(readOnly, 0, 0, 4096),
    fallocate(-1, 0, 0, 4096),
    fallocate(readOnly, 0, -1, 4096),
  ]);
  fs.closeSync(readOnly);
  const codes = results.map(result => (result.status === 'rejected' ? result.reason.code : 'none'));
  expect(codes).toEqual(['EBADF', 'EBADF', 'EINVAL']);
});
