// Goal: a file past the page cache behaves as any other, whatever range is asked for. Method: real files opened
// with O_DIRECT, requests at once and at random, beside a plain buffer.
import fs from 'node:fs';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { makeTemporaryFolder } from '../testing/temporary-folder.ts';
import { KiB, MiB } from '../units.ts';
import { NodeFile } from './node-file.ts';

const folder = makeTemporaryFolder();
afterAll(() => folder.remove());

let files = 0;

/** A file that was empty when it was opened counts in the largest blocks; another in its device's. */
async function openDirect(sizeBytes: number, { large = false } = {}): Promise<NodeFile> {
  const path = folder.file(`direct-${files++}`);
  fs.writeFileSync(path, Buffer.alloc(large ? 0 : sizeBytes));
  const file = await NodeFile.open(path, { direct: true });
  if (large) await file.truncate(sizeBytes);
  return file;
}

/** The flags of every descriptor of this process that is open for the path. */
function openFlagsOf(path: string): number[] {
  const found: number[] = [];
  for (const fd of fs.readdirSync('/proc/self/fd')) {
    try {
      if (fs.readlinkSync(`/proc/self/fd/${fd}`) !== fs.realpathSync(path)) continue;
      const info = fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8');
      found.push(Number.parseInt(/flags:\s+(\d+)/.exec(info)![1]!, 8));
    } catch {
      // It was closed meanwhile.
    }
  }
  return found;
}

const isDirect = (flags: number): boolean => (flags & fs.constants.O_DIRECT) !== 0;

describe('opening', () => {
  test('the descriptor has O_DIRECT, also after reopening, and loses it when asked to', async () => {
    const file = await openDirect(MiB);
    expect(openFlagsOf(file.path).map(isDirect)).toEqual([true]);
    (await file.prepareReopen({ readOnly: true, direct: true })).commit();
    await file.read(0, Buffer.alloc(512));
    expect(openFlagsOf(file.path).at(-1)).toSatisfy(isDirect);
    (await file.prepareReopen({ readOnly: false })).commit();
    expect(file.direct).toBe(false);
    await file.close();
    expect(openFlagsOf(file.path)).toEqual([]);
  });

  test('a way of reopening that is given up leaves the file as it was', async () => {
    const file = await openDirect(MiB);
    (await file.prepareReopen({ readOnly: false })).abort();
    expect(openFlagsOf(file.path).map(isDirect)).toEqual([true]);
    await file.close();
  });
});

describe.each([
  ['blocks of the device', false],
  ['blocks of 4 KiB', true],
])('%s', (_, large) => {
  test('keeps what lies around an unaligned write, and the size of the file', async () => {
    const file = await openDirect(10_000, { large });
    await file.write(0, Buffer.alloc(10_000, 1));
    await file.write(9_990, Buffer.alloc(20, 2));
    await file.flush();
    expect(file.sizeBytes).toBe(10_010);
    const seen = fs.readFileSync(file.path);
    expect(seen.equals(Buffer.concat([Buffer.alloc(9_990, 1), Buffer.alloc(20, 2)]))).toBe(true);
    const past = Buffer.alloc(100, 0xee);
    await file.read(9_950, past);
    const expected = [Buffer.alloc(40, 1), Buffer.alloc(20, 2), Buffer.alloc(40)];
    expect(past.equals(Buffer.concat(expected))).toBe(true);
    await file.close();
  });

  test('neighbours in one block do not undo each other', async () => {
    const file = await openDirect(64 * KiB, { large });
    const step = 100;
    const writes = Array.from({ length: 600 }, (_ignored, index) =>
      file.write(index * step, Buffer.alloc(step, (index % 255) + 1)),
    );
    await Promise.all([...writes, file.write(60_000, Buffer.alloc(8 * KiB, 7))]);
    const seen = fs.readFileSync(file.path);
    for (let index = 0; index < 600; index++) expect(seen[index * step + 50]).toBe((index % 255) + 1);
    expect(seen.length).toBe(60_000 + 8 * KiB);
    await file.close();
  });

  test('is the same as a buffer after any requests', async () => {
    const range = fc.record({
      kind: fc.constantFrom('write', 'zeroes', 'discard'),
      offset: fc.nat(3 * MiB),
      length: fc.integer({ min: 1, max: 1_300_000 }),
      sectors: fc.boolean(),
      value: fc.integer({ min: 1, max: 255 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(range, { maxLength: 12 }), async requests => {
        const file = await openDirect(3 * MiB + 700, { large });
        let model = Buffer.alloc(3 * MiB + 700);
        for (const { kind, sectors, value, ...at } of requests) {
          const unit = sectors ? 512 : 1;
          const offset = at.offset - (at.offset % unit);
          const length = Math.max(unit, at.length - (at.length % unit));
          // A discard past the end does not make the file longer.
          const end = kind === 'discard' ? Math.min(offset + length, model.length) : offset + length;
          if (end <= offset) continue;
          if (end > model.length) model = Buffer.concat([model, Buffer.alloc(end - model.length)]);
          model.fill(kind === 'write' ? value : 0, offset, end);
          if (kind === 'write') await file.write(offset, Buffer.alloc(length, value));
          else if (kind === 'zeroes') await file.writeZeroes(offset, length, { mayUnmap: value % 2 === 0 });
          else await file.discard(offset, end - offset);
        }
        const seen = Buffer.alloc(model.length);
        await file.read(0, seen);
        expect(seen.equals(model)).toBe(true);
        expect(fs.readFileSync(file.path).equals(model)).toBe(true);
        await file.close();
        fs.rmSync(file.path);
      }),
      { numRuns: 25 },
    );
  });
});
