// Goal: what readers of a frozen moment see, and what guests wait for, whatever order their requests come in.
// Method: a filter over disks in memory whose requests are held and let go one by one, a clock moved by hand,
// and random histories of guests and readers at once.
import { describe, expect, it } from 'vitest';
import type { Clock } from '../../src/clock.ts';
import { systemClock } from '../../src/clock.ts';
import { BlockCopy } from '../../src/copy/block-copy.ts';
import { CopyBeforeWrite, type OnCbwError } from '../../src/filter/copy-before-write.ts';
import { FaultyNode } from '../../src/testing/faulty-node.ts';
import { ManualClock } from '../../src/testing/manual-clock.ts';
import { MemoryNode } from '../../src/testing/memory-node.ts';
import { SeededRandom } from '../../src/testing/seeded-random.ts';
import { KiB } from '../../src/units.ts';

const CLUSTER = 64 * KiB;
const SIZE = 8 * CLUSTER;

interface FilterOptions {
  readonly onCbwError?: OnCbwError;
  readonly cbwTimeoutMs?: number;
  readonly clock?: Clock;
  readonly feedFromReads?: boolean;
}

/** A disk of 0x11, frozen, over a target of zeroes; both ends can hold and fail requests. */
async function freeze(options: FilterOptions = {}) {
  const disk = new MemoryNode({ sizeBytes: SIZE });
  const memory = new MemoryNode({ sizeBytes: SIZE });
  await disk.write(0, Buffer.alloc(SIZE, 0x11));
  const source = new FaultyNode(disk);
  const target = new FaultyNode(memory);
  const copy = new BlockCopy({ source, target, targetIsZero: false });
  copy.copyBitmap.setAll();
  const filter = new CopyBeforeWrite({
    ...{ source, target, copy, onCbwError: 'break-guest-write', cbwTimeoutMs: 0, clock: systemClock },
    ...options,
  });
  return { disk, memory, source, target, copy, filter };
}

async function turns(): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await new Promise(resolve => setImmediate(resolve));
}

/** Whether it has ended by now. */
async function hasEnded(request: Promise<unknown> | undefined): Promise<boolean> {
  let ended = request === undefined;
  const end = (): void => {
    ended = true;
  };
  request?.then(end, end);
  await turns();
  return ended;
}

async function readMoment(
  { filter }: { filter: CopyBeforeWrite },
  offset = 0,
  length = SIZE,
): Promise<Buffer> {
  const buffer = Buffer.alloc(length, 0xee);
  await filter.snapshot.read(offset, buffer);
  return buffer;
}

const old = (length = SIZE): Buffer => Buffer.alloc(length, 0x11);
const fresh = (length: number): Buffer => Buffer.alloc(length, 0x22);

describe('guests', () => {
  it('copies a cluster once for two guests that write to it', async () => {
    const { filter, target, memory } = await freeze();
    target.pause();
    const writes = [filter.write(0, fresh(512)), filter.write(1024, fresh(512))];
    await target.untilHeld(1);
    expect(await hasEnded(writes[0])).toBe(false);
    expect(await hasEnded(writes[1])).toBe(false);
    target.release();
    await Promise.all(writes);
    expect(memory.counts.write).toBe(1);
  });

  it('lets guest reads pass while a copy hangs', async () => {
    const { filter, target } = await freeze();
    target.pause();
    const write = filter.write(0, fresh(512));
    await target.untilHeld(1);
    const buffer = Buffer.alloc(CLUSTER);
    expect(await hasEnded(filter.read(0, buffer) ?? undefined)).toBe(true);
    expect(buffer.equals(old(CLUSTER))).toBe(true);
    target.release();
    await write;
  });

  it('holds a guest for as long as its target hangs where no time-out was given', async () => {
    const clock = new ManualClock();
    const { filter, target } = await freeze({ clock });
    target.pause();
    const write = filter.write(0, fresh(512));
    await clock.advance(3_600_000);
    expect(await hasEnded(write)).toBe(false);
    target.release();
    await write;
  });

  it.each([5000, 3_600_000])('waits %d ms for a copy, and not a millisecond more', async cbwTimeoutMs => {
    const clock = new ManualClock();
    const { filter, target, copy, memory } = await freeze({ clock, cbwTimeoutMs });
    target.pause();
    const write = Promise.resolve(filter.write(0, fresh(512)));
    write.catch(() => undefined);
    await target.untilHeld(1);
    await clock.advance(cbwTimeoutMs - 1);
    expect(await hasEnded(write)).toBe(false);
    await clock.advance(1);
    await expect(write).rejects.toMatchObject({ context: { errno: 'ETIMEDOUT' } });
    // The late copy is still on its way: stopping waits for it.
    const stopped = copy.stop();
    expect(await hasEnded(stopped)).toBe(false);
    target.release();
    await stopped;
    expect(memory.counts.write).toBe(1);
  });

  it('retries a copy that failed with the next write', async () => {
    const { filter, target } = await freeze();
    target.addRule({ event: 'write', errno: 'EIO', once: true });
    await expect(filter.write(0, fresh(512))).rejects.toMatchObject({ context: { errno: 'EIO' } });
    await filter.write(0, fresh(512));
    expect((await readMoment({ filter })).equals(old())).toBe(true);
  });
});

describe('readers of the moment', () => {
  it('make guests wait for the end of a read of the source, and never see what these write', async () => {
    const moment = await freeze();
    const { filter, source } = moment;
    // Held: the reader's read, not that of the guest's copy, which comes after.
    source.pause((event, offset, length) => event === 'read' && offset === 0 && length === SIZE);
    const reading = readMoment(moment);
    await source.untilHeld(1);
    const write = filter.write(0, fresh(CLUSTER));
    expect(await hasEnded(write)).toBe(false);
    source.release();
    expect((await reading).equals(old())).toBe(true);
    await write;
    expect((await readMoment(moment)).equals(old())).toBe(true);
  });

  it('hear of no zeroes that a guest makes while the source looks up its status', async () => {
    const { filter, source, disk } = await freeze();
    const lookup = Promise.withResolvers<void>();
    // As of an image whose tables, or whose backing image, are not at hand.
    source.extents = async (offset: number, length: number) => {
      await lookup.promise;
      return disk.extents(offset, length);
    };
    const told = filter.snapshot.extents(0, SIZE);
    const later = filter.snapshot.extents(2 * CLUSTER, CLUSTER);
    await filter.discard(2 * CLUSTER, CLUSTER);
    lookup.resolve();
    expect((await told).some(extent => extent.zero)).toBe(false);
    expect(await later).toMatchObject([{ offset: 2 * CLUSTER, length: CLUSTER, zero: false }]);
  });

  it('read the source while a copy is on its way, and are right when that fails', async () => {
    const moment = await freeze();
    const { filter, target } = moment;
    target.addRule({ event: 'write', errno: 'EIO', once: true, moment: 'after' });
    target.pause();
    const write = Promise.resolve(filter.write(0, fresh(512)));
    write.catch(() => undefined);
    await target.untilHeld(1);
    expect((await readMoment(moment, 0, CLUSTER)).equals(old(CLUSTER))).toBe(true);
    target.release();
    await expect(write).rejects.toMatchObject({ context: { errno: 'EIO' } });
    expect((await readMoment(moment)).equals(old())).toBe(true);
  });

  it('are refused once the moment is lost, also in the middle of a read', async () => {
    const moment = await freeze({ onCbwError: 'break-snapshot' });
    const { filter, source, target } = moment;
    source.pause((event, offset) => event === 'read' && offset === CLUSTER);
    const reading = readMoment(moment, CLUSTER, CLUSTER);
    reading.catch(() => undefined);
    await source.untilHeld(1);
    target.addRule({ event: 'write', errno: 'ENOSPC', once: true });
    await filter.write(0, fresh(512));
    source.release();
    await expect(reading).rejects.toMatchObject({ kind: 'denied' });
    await expect(readMoment(moment)).rejects.toMatchObject({ kind: 'denied' });
    expect(filter.broken?.message).toContain('ENOSPC');
  });

  it('are denied what was discarded, while a copy of it is under way too', async () => {
    const moment = await freeze();
    const { filter, target, memory } = moment;
    target.pause(event => event === 'write');
    const write = filter.write(CLUSTER, fresh(CLUSTER));
    await target.untilHeld(1);
    const discard = filter.snapshot.discard(CLUSTER - 512, 2 * CLUSTER);
    expect(await hasEnded(discard)).toBe(false);
    target.release();
    await Promise.all([write, discard]);
    const denied = { kind: 'denied', context: { errno: 'EACCES' } };
    await expect(readMoment(moment, CLUSTER, 512)).rejects.toMatchObject(denied);
    expect((await readMoment(moment, 0, CLUSTER)).equals(old(CLUSTER))).toBe(true);
    const before = memory.counts.write;
    await filter.write(CLUSTER, fresh(CLUSTER));
    expect(memory.counts.write).toBe(before);
  });
});

it('a guest read feeds the copy: nothing is read twice, and what it brings is the moment', async () => {
  const moment = await freeze({ feedFromReads: true });
  const { filter, disk, copy } = moment;
  const buffer = Buffer.alloc(4 * CLUSTER);
  await filter.read(512, buffer);
  while (copy.inFlight > 0) await copy.anyFinished();
  expect(copy.copyBitmap.nextZero(0, SIZE)).toBe(CLUSTER);
  expect(copy.copyBitmap.dirtyBytes).toBe(SIZE - 3 * CLUSTER);
  const reads = disk.counts.read;
  await filter.write(CLUSTER, fresh(2 * CLUSTER));
  expect(disk.counts.read).toBe(reads);
  expect((await readMoment(moment)).equals(old())).toBe(true);
});

describe('random histories', () => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8])(
    'shows the moment to readers while guests write (seed %d)',
    async seed => {
      const random = new SeededRandom(seed);
      const moment = await freeze({ feedFromReads: seed % 2 === 0 });
      const { filter, source, target } = moment;
      for (const node of [source, target]) {
        for (let rule = 0; rule < 3; rule++) {
          const offset = random.int(0, SIZE - 1);
          node.addRule({ event: random.pick(['read', 'write'] as const), offset, errno: 'EIO', once: true });
        }
      }
      const guest = async (): Promise<void> => {
        for (let count = 0; count < 60; count++) {
          const offset = random.int(0, SIZE / 512 - 1) * 512;
          const length = Math.min(random.int(1, 300) * 512, SIZE - offset);
          const kind = random.int(0, 3);
          const zeroes = { mayUnmap: true };
          const request =
            kind === 0
              ? () => filter.writeZeroes(offset, length, zeroes)
              : kind === 1
                ? () => filter.read(offset, Buffer.alloc(length))
                : () => filter.write(offset, Buffer.alloc(length, random.int(0, 255)));
          await Promise.resolve(request()).catch(() => undefined);
        }
      };
      const reader = async (): Promise<void> => {
        for (let count = 0; count < 40; count++) {
          const offset = random.int(0, SIZE - 2);
          const length = random.int(1, SIZE - offset);
          const seen = await readMoment(moment, offset, length).catch(() => undefined);
          if (seen !== undefined) expect(seen.equals(old(length))).toBe(true);
        }
      };
      await Promise.all([guest(), guest(), guest(), reader(), reader()]);
      for (const node of [source, target]) node.clearRules();
      expect((await readMoment(moment)).equals(old())).toBe(true);
    },
  );
});
