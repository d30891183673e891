// Goal: what is encoded decodes to the same, and the small pure parts keep their promises.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BufferPool } from './buffer-pool.ts';
import { formatNbdUri, parseNbdUri } from './index.ts';
import { listContexts, selectContexts, trimExtents } from './meta-context.ts';
import * as codec from './option-codec.ts';

const text = fc.string({ unit: 'grapheme', maxLength: 40 }).filter(value => !value.includes('\0'));

describe('options', () => {
  it('round-trip', () => {
    fc.assert(
      fc.property(text, fc.array(fc.nat(65_535)), (exportName, types) => {
        expect(codec.decodeInfoRequest(codec.encodeInfoRequest({ exportName, types }))).toEqual({
          exportName,
          types,
        });
      }),
    );
    fc.assert(
      fc.property(text, fc.array(text), (exportName, queries) => {
        expect(codec.decodeContextRequest(codec.encodeContextRequest({ exportName, queries }))).toEqual({
          exportName,
          queries,
        });
      }),
    );
  });

  it('decode any bytes without throwing', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), bytes => {
        codec.decodeInfoRequest(Buffer.from(bytes));
        codec.decodeContextRequest(Buffer.from(bytes));
      }),
    );
  });
});

describe('contexts', () => {
  const all = ['base:allocation', 'qemu:dirty-bitmap:a', 'qemu:dirty-bitmap:b', 'qemu:allocation-depth'];
  it('are listed by prefix', () => {
    expect(listContexts(all, ['qemu:dirty-bitmap:'])).toEqual(all.slice(1, 3));
    expect(listContexts(all, ['qemu:', 'qemu:dirty-bitmap:a'])).toEqual(all.slice(1));
    expect(listContexts(all, ['qemu:dirty-bitmap'])).toEqual([]);
  });
  it('are selected by name, with distinct ids', () => {
    expect(selectContexts(all, [all[3]!, all[1]!, all[1]!])).toEqual([
      { name: all[1], id: 2 },
      { name: all[3], id: 4 },
    ]);
  });
  it('send extents joined, cut at the range, and bounded', () => {
    const extents = [
      { length: 5, flags: 1 },
      { length: 5, flags: 1 },
      { length: 5, flags: 0 },
    ];
    expect(trimExtents(extents, 12, false)).toEqual([
      { length: 10, flags: 1 },
      { length: 2, flags: 0 },
    ]);
    expect(trimExtents(extents, 12, true)).toEqual([{ length: 10, flags: 1 }]);
    const many = Array.from({ length: 20_000 }, (_, i) => ({ length: 1, flags: i % 2 }));
    expect(trimExtents(many, 20_000, false)).toHaveLength(8192);
    expect(trimExtents([{ length: 0, flags: 0 }], 5, false)).toEqual([]);
  });
});

describe('addresses', () => {
  it.each([
    ['nbd://host:1/a%2Fb', { host: 'host', port: 1, exportName: 'a/b' }],
    ['nbd://[::1]:7/', { host: '::1', port: 7, exportName: '' }],
    ['nbd://host/x', { host: 'host', port: 10809, exportName: 'x' }],
    ['nbd+unix:///x?socket=/run/a b.sock', { path: '/run/a b.sock', exportName: 'x' }],
  ])('%s', (uri, target) => {
    expect(parseNbdUri(uri)).toEqual(target);
    expect(parseNbdUri(formatNbdUri(target))).toEqual(target);
  });
  it.each(['', 'http://host/x', 'nbd:///x', 'nbd+unix:///x', 'nbd://host:99999/x', 'nbd://host/%zz'])(
    '%s is refused',
    uri => {
      expect(() => parseNbdUri(uri)).toThrow('is no NBD address');
    },
  );
});

it('the pool gives buffers again, and keeps only so many', () => {
  const pool = new BufferPool(300_000);
  const buffer = pool.take(200_000);
  expect(buffer.byteLength).toBeGreaterThanOrEqual(200_000);
  pool.give(buffer);
  expect(pool.take(250_000)).toBe(buffer);
  const two = [pool.take(200_000), buffer];
  for (const each of two) pool.give(each);
  expect(pool.idleBytes).toBeLessThanOrEqual(300_000);
});
