// The structure under every bitmap, as far as a client can see it: runs across the edges of its levels,
// truncation, and merges between granularities. Its own unit tests go further.
import { expect } from 'vitest';
import { closeDisk, newDisk } from '../backup-chain.ts';
import { dirtySet } from '../bitmap-sets.ts';
import { scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
/** The edges of the levels, in granules: a word, a word of words, and one more. */
const EDGES = [64, 64 ** 2, 64 ** 3];

const addBitmap = (s: Session, name: string, granularity: number) =>
  s.ok('block-dirty-bitmap-add', { node: 'disk', name, granularity });
const hash = (s: Session, name: string) => s.ok('x-debug-block-dirty-bitmap-sha256', { node: 'disk', name });

scenario('HB-01', 'what is written once, twice or with an overlap is counted once', async s => {
  await newDisk(s, 'disk');
  await addBitmap(s, 'b', 64 * KiB);
  const writes = ['0 1', '65535 1', '0 64k', '65535 2', '1M 192k', '1088k 64k', '67108863 1'];
  await s.io('disk', ...writes.map(write => `write -P 1 ${write}`));
  expect(await dirtySet(s, 'disk', 'b')).toBe('0-1 16-18 1023');
  expect(await s.bitmap('disk', 'b')).toMatchObject({ count: 6 * 64 * KiB });
});

scenario('HB-04', 'runs are found up to, on and over the edges of the levels', async s => {
  await newDisk(s, 'disk', { size: '192M' });
  await addBitmap(s, 'b', 512);
  const runs = EDGES.flatMap(edge => [
    [edge - 2, 1],
    [edge + 3, 5],
    [edge * 1.25, 2],
  ]);
  await s.io('disk', ...runs.map(([first, count]) => `write -P 1 ${first! * 512} ${count! * 512}`));
  const expected = runs.map(([first, count]) =>
    count === 1 ? `${first}` : `${first}-${first! + count! - 1}`,
  );
  expect(await dirtySet(s, 'disk', 'b')).toBe(expected.join(' '));
  await s.io('disk', ...EDGES.map(edge => `write -P 2 ${(edge - 1) * 512} 1k`));
  await dirtySet(s, 'disk', 'b');
  await hash(s, 'b');
});

scenario('HB-03', 'a truncated bitmap keeps what is inside, and what comes back is clean', async s => {
  await s.image('disk', { format: 'raw', size: '8M' });
  await s.add({ driver: 'raw', 'node-name': 'disk', file: { driver: 'file', filename: s.path('disk') } });
  const granularities = [512, 64 * KiB];
  for (const granularity of granularities) await addBitmap(s, `g${granularity}`, granularity);
  await s.io('disk', 'write -P 1 0 64k', 'write -P 1 4032k 128k', 'write -P 1 8128k 64k');
  await s.closeGuest('disk');
  const word = 64 * 64 * KiB;
  for (const size of [4 * MiB, 9 * MiB, word - 512, word + 512, word, 2 * word, 6 * MiB]) {
    await s.ok('block_resize', { 'node-name': 'disk', size });
    for (const granularity of granularities) {
      await s.bitmap('disk', `g${granularity}`);
      await hash(s, `g${granularity}`);
    }
  }
  expect(await dirtySet(s, 'disk', `g${64 * KiB}`)).toBe('0 63');
  expect(await dirtySet(s, 'disk', 'g512')).toBe('0-127 8064-8190');
});

scenario('HB-07', 'a merge between granularities, both ways, with sizes that are no multiple', async s => {
  await newDisk(s, 'disk', { size: String(5 * MiB + 512) });
  const granularities = [512, 4 * KiB, 128 * KiB, 2 * MiB];
  await addBitmap(s, 'source', 4 * KiB);
  await s.io('disk', 'write -P 1 0 1', 'write -P 1 262100 100', `write -P 1 ${5 * MiB} 512`);
  for (const granularity of granularities) {
    const target = `t${granularity}`;
    await addBitmap(s, target, granularity);
    await s.ok('block-dirty-bitmap-merge', { node: 'disk', target, bitmaps: ['source'] });
    await dirtySet(s, 'disk', target);
    await hash(s, target);
    await addBitmap(s, `back from ${target}`, 512);
    await s.ok('block-dirty-bitmap-merge', {
      node: 'disk',
      target: `back from ${target}`,
      bitmaps: [target],
    });
    await hash(s, `back from ${target}`);
  }
  await s.bitmaps('disk');
  await closeDisk(s, 'disk');
});
