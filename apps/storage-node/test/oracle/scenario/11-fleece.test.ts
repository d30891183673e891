// The action `fleece`, which is ours alone: one frozen moment of several disks, with their bitmaps, for readers.
import { expect } from 'vitest';
import { ours } from '../scenario.ts';
import type { Session } from '../session.ts';

const SIZE = '4M';

async function rawDisk(s: Session, name: string): Promise<void> {
  await s.image(name, { format: 'raw', size: SIZE });
  await s.add({ driver: 'raw', 'node-name': name, file: { driver: 'file', filename: s.path(name) } });
}

const fleece = (disk: string, more: object = {}) => ({
  type: 'fleece',
  data: { device: disk, target: `temp-${disk}`, 'snapshot-node-name': `moment-${disk}`, ...more },
});

async function exportMoment(s: Session, disk: string, more: object = {}): Promise<void> {
  await s.nbdSocket();
  const name = `moment-${disk}`;
  await s.ok('block-export-add', { type: 'nbd', id: name, 'node-name': name, name, ...more });
}

async function firstByte(s: Session, disk: string): Promise<number> {
  const printed = await s.readExport(`moment-${disk}`, 'read -v 0 1');
  return Number.parseInt(/^00000000: {2}([0-9a-f]{2})/m.exec(printed)![1]!, 16);
}

async function removeMoments(s: Session, disks: readonly string[]): Promise<void> {
  for (const disk of disks) {
    const moment = { 'snapshot-node-name': `moment-${disk}` };
    expect((await s.refused('x-tidemark-fleece-remove', moment)).desc).toContain('in use');
    await s.ok('block-export-del', { id: `moment-${disk}`, mode: 'hard' });
    await s.event('BLOCK_EXPORT_DELETED', { id: `moment-${disk}` });
    await s.ok('x-tidemark-fleece-remove', moment);
    await s.refused('x-tidemark-fleece-remove', moment);
  }
}

ours('FL-09', 'several disks share one moment while guests write to all of them in turn', async s => {
  const disks = ['a', 'b', 'c'];
  for (const disk of disks) {
    await rawDisk(s, disk);
    await rawDisk(s, `temp-${disk}`);
  }
  const guests = await Promise.all(disks.map(disk => s.guest(disk)));
  let stopped = false;
  const writing = (async () => {
    for (let count = 1; !stopped; count = (count % 250) + 1) {
      for (const guest of guests) await guest.run(`write -P ${count} 0 512`);
    }
  })();
  for (let round = 0; round < 5; round++) {
    await s.ok('transaction', { actions: disks.map(disk => fleece(disk)) });
    for (const disk of disks) await exportMoment(s, disk);
    const stamps = await Promise.all(disks.map(disk => firstByte(s, disk)));
    // Each stamp reaches the disks in their order: at one instant no later one can be ahead.
    for (let index = 1; index < stamps.length; index++) {
      expect([0, 1, -249]).toContain(stamps[index - 1]! - stamps[index]!);
    }
    expect([0, 1, -249]).toContain(stamps[0]! - stamps.at(-1)!);
    await removeMoments(s, disks);
  }
  stopped = true;
  await writing;
  expect(await s.ask('x-tidemark-query-fleeces')).toEqual([]);
});

ours('NB-06', 'a client pulls what changed: the bitmap is frozen with its disk', async s => {
  await rawDisk(s, 'a');
  await rawDisk(s, 'temp-a');
  await s.io('a', 'write -P 1 0 4M');
  await s.ok('block-dirty-bitmap-add', { node: 'a', name: 'changed' });
  await s.io('a', 'write -P 2 1M 64k', 'write -P 3 3M 4k');
  const clear = { type: 'block-dirty-bitmap-clear', data: { node: 'a', name: 'changed' } };
  await s.ok('transaction', { actions: [fleece('a', { bitmap: 'changed' }), clear] });
  await s.io('a', 'write -P 4 1M 4k', 'write -P 5 2M 64k');
  await exportMoment(s, 'a', { bitmaps: ['changed'] });
  expect(await s.map('moment-a', 'qemu:dirty-bitmap:changed')).toEqual([
    [0, 1 << 20, 0],
    [1 << 20, 65536, 1],
    [(1 << 20) + 65536, (2 << 20) - 65536, 0],
    [3 << 20, 65536, 1],
    [(3 << 20) + 65536, (1 << 20) - 65536, 0],
  ]);
  const read = await s.readExport('moment-a', 'read -P 2 1M 64k', 'read -P 3 3M 4k', 'read -P 1 3076k 60k');
  expect(read).not.toContain('failed');
  expect(await s.readExport('moment-a', 'read 0 64k')).toContain('Invalid argument');
  expect((await s.bitmap('a', 'changed')).count).toBe(2 * 65536);
  await removeMoments(s, ['a']);
});

ours('FL-09a', 'a transaction that is aborted has frozen nothing', async s => {
  await rawDisk(s, 'a');
  await rawDisk(s, 'temp-a');
  const before = await s.ask<unknown[]>('query-named-block-nodes');
  const abort = { type: 'abort', data: {} };
  await s.refused('transaction', { actions: [fleece('a'), abort] });
  await s.refused('transaction', { actions: [fleece('a'), fleece('nobody')] });
  await s.refused('transaction', { actions: [fleece('a', { bitmap: 'none' })] });
  await s.refused('transaction', { actions: [fleece('a', { target: 'a' })] });
  await s.refused('transaction', { actions: [fleece('a', { 'snapshot-node-name': 'temp-a' })] });
  expect(await s.ask<unknown[]>('query-named-block-nodes')).toHaveLength(before.length);
  await s.ok('transaction', { actions: [fleece('a')] });
  await s.refused('blockdev-del', { 'node-name': 'moment-a' });
  await s.ok('x-tidemark-fleece-remove', { 'snapshot-node-name': 'moment-a' });
});

ours('FL-07', 'a full target costs whom the policy names', async s => {
  for (const [policy, loses] of [
    ['break-snapshot', 'snapshot'],
    ['break-guest-write', 'guest'],
  ] as const) {
    const disk = loses;
    await rawDisk(s, disk);
    await s.image(`temp-${disk}`, { format: 'raw', size: SIZE });
    const image = { driver: 'file', filename: s.path(`temp-${disk}`) };
    const rules = [{ event: 'none', iotype: 'write', errno: 28, sector: 2048 }];
    await s.add({ driver: 'blkdebug', 'node-name': `temp-${disk}`, image, 'inject-error': rules });
    await s.io(disk, 'write -P 1 0 4M');
    await s.ok('transaction', { actions: [fleece(disk, { 'on-cbw-error': policy })] });
    await exportMoment(s, disk);
    const first = await s.io(disk, 'write -P 2 0 64k');
    expect(first).not.toContain('failed');
    const second = await s.io(disk, 'write -P 2 1M 64k');
    const moment = await s.readExport(`moment-${disk}`, 'read -P 1 0 4M');
    const [known] = (await s.ask<{ broken?: string }[]>('x-tidemark-query-fleeces')).slice(-1);
    if (loses === 'guest') {
      expect(second).toContain('No space left on device');
      expect(moment).not.toContain('failed');
      expect(known).not.toHaveProperty('broken');
    } else {
      expect(second).not.toContain('failed');
      expect(moment).toContain('Invalid argument');
      expect(known!.broken).toContain('frozen moment was given up');
      await s.event('X_TIDEMARK_SNAPSHOT_BROKEN');
    }
    await removeMoments(s, [disk]);
  }
});
