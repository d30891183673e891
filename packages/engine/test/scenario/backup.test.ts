// Goal: a backup is the disk as of its instant, whatever the guest does and whatever fails. Method: real
// graph, filter and job over memory nodes with injected delays, holds and faults; the oracle is a copy of
// the disk taken at the instant.
import { describe, expect, it } from 'vitest';
import { PERMISSION } from '../../src/graph/permissions.ts';
import { FaultyNode } from '../../src/testing/faulty-node.ts';
import { ManualClock } from '../../src/testing/manual-clock.ts';
import { MemoryNode } from '../../src/testing/memory-node.ts';
import { SeededRandom } from '../../src/testing/seeded-random.ts';
import { addBitmap, disableBitmap, mergeBitmaps } from '../../src/transaction/bitmap-actions.ts';
import { runTransaction } from '../../src/transaction/transaction.ts';
import { alignUp, KiB, MiB } from '../../src/units.ts';
import { backupOf, CLUSTER, contents, makeDisk, withAsyncStatus } from './disk-fixture.ts';

const turn = () => new Promise<void>(resolve => setImmediate(resolve));
const fill = (byte: number, length: number) => Buffer.alloc(length, byte);

function slow(random: SeededRandom, node: MemoryNode): FaultyNode {
  return new FaultyNode(node, { delay: () => (random.chance(0.5) ? turn() : undefined) });
}

describe('backup of a live disk', () => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8])(
    'equals the disk at its instant under random writes, seed %i',
    async seed => {
      const random = new SeededRandom(seed);
      const sizeBytes = 4 * MiB + 4097;
      const memory = new MemoryNode({ sizeBytes });
      const target = new MemoryNode({ sizeBytes });
      const source = slow(random, seed % 2 === 0 ? withAsyncStatus(memory) : memory);
      const disk = makeDisk({ sizeBytes, source, target: slow(random, target) });
      for (let i = 0; i < 20; i++) {
        await disk.guest.write(random.int(0, sizeBytes - 9000), random.bytes(random.int(1, 9000)));
      }
      const action = backupOf(disk, { workers: random.int(1, 8) });
      const committed = runTransaction(disk.graph, [action]);
      await committed;
      const frozen = await contents(memory);
      const writes: Promise<void>[] = [];
      for (let i = 0; i < 200 && action.job!.state !== 'null'; i++) {
        const offset = random.int(0, sizeBytes - 1);
        const length = random.int(1, Math.min(300 * KiB, sizeBytes - offset));
        const verb = random.int(0, 9);
        const pending =
          verb < 7
            ? disk.guest.write(offset, random.bytes(length))
            : verb < 9
              ? disk.guest.writeZeroes(offset, length, { mayUnmap: true })
              : disk.guest.discard(offset, length);
        if (pending !== undefined) writes.push(pending);
        if (random.chance(0.3)) await turn();
      }
      await Promise.all(writes);
      await action.job!.concluded;
      expect(action.job!.error).toBeUndefined();
      expect((await contents(target)).equals(frozen)).toBe(true);
      expect(disk.graph.has('filter')).toBe(false);
      const progress = action.job!.progress();
      expect(progress.currentBytes).toBe(alignUp(sizeBytes, CLUSTER));
      expect(progress.totalBytes).toBe(alignUp(sizeBytes, CLUSTER));
    },
  );

  it('copies a cluster once: the guest waits for the copy of the job, and for that of another guest', async () => {
    const target = new MemoryNode({ sizeBytes: 1 * MiB });
    const held = new FaultyNode(target);
    const disk = makeDisk({ sizeBytes: 1 * MiB, target: held });
    await disk.guest.write(0, fill(0x11, 1 * MiB));
    held.pause();
    const action = backupOf(disk, { workers: 1 });
    await runTransaction(disk.graph, [action]);
    await held.untilHeld(1);
    const first = disk.guest.write(0, fill(0x22, 512));
    const second = disk.guest.write(1024, fill(0x33, 512));
    await turn();
    expect((await contents(disk.source)).equals(fill(0x11, 1 * MiB))).toBe(true);
    held.release();
    await Promise.all([first, second]);
    await action.job!.concluded;
    expect(target.counts.write).toBe(1);
    expect((await contents(target)).equals(fill(0x11, 1 * MiB))).toBe(true);
  });

  it('leaves an already copied middle alone when a larger write comes', async () => {
    const target = new MemoryNode({ sizeBytes: 4 * MiB });
    const disk = makeDisk({ sizeBytes: 4 * MiB, target });
    await disk.guest.write(0, fill(42, 2 * MiB));
    const action = backupOf(disk);
    await runTransaction(disk.graph, [action]);
    action.job!.pause();
    await turn();
    await disk.guest.write(1 * MiB + CLUSTER, fill(23, CLUSTER));
    await disk.guest.write(1 * MiB, fill(66, 1 * MiB));
    action.job!.resume();
    await action.job!.concluded;
    expect((await contents(target)).subarray(0, 2 * MiB).equals(fill(42, 2 * MiB))).toBe(true);
  });

  it('copies before write-zeroes and discard too', async () => {
    const target = new MemoryNode({ sizeBytes: 1 * MiB });
    const disk = makeDisk({ sizeBytes: 1 * MiB, target });
    await disk.guest.write(0, fill(7, 1 * MiB));
    const action = backupOf(disk);
    await runTransaction(disk.graph, [action]);
    await Promise.all([
      disk.guest.discard(0, CLUSTER),
      disk.guest.writeZeroes(3 * CLUSTER, 100, { mayUnmap: false }),
    ]);
    await action.job!.concluded;
    expect((await contents(target)).equals(fill(7, 1 * MiB))).toBe(true);
  });

  it('copies for a guest where the source cannot tell its status, and nobody has to catch that', async () => {
    const target = new MemoryNode({ sizeBytes: 1 * MiB });
    const memory = new MemoryNode({ sizeBytes: 1 * MiB });
    const disk = makeDisk({ sizeBytes: 1 * MiB, source: memory, target });
    await disk.guest.write(0, fill(7, 1 * MiB));
    const action = backupOf(disk, { workers: 1, chunkBytesMax: CLUSTER });
    await runTransaction(disk.graph, [action]);
    action.job!.pause();
    await turn();
    memory.extents = (() =>
      Promise.reject(new Error('the peer is gone'))) as unknown as MemoryNode['extents'];
    await disk.guest.write(5 * CLUSTER, fill(8, CLUSTER));
    await turn();
    action.job!.cancel();
    await action.job!.concluded;
    expect((await contents(target)).subarray(5 * CLUSTER, 6 * CLUSTER)).toEqual(fill(7, CLUSTER));
  });

  it('skips holes without reading them and sends no zeroes', async () => {
    const target = new MemoryNode({ sizeBytes: 64 * MiB });
    const disk = makeDisk({ sizeBytes: 64 * MiB, target });
    await disk.guest.write(32 * MiB, fill(1, CLUSTER));
    const action = backupOf(disk);
    await runTransaction(disk.graph, [action]);
    await action.job!.concluded;
    expect(disk.source.counts.read).toBe(1);
    expect(target.counts).toMatchObject({ write: 1, writeZeroes: 0 });
    expect(action.job!.progress()).toMatchObject({ currentBytes: 64 * MiB, sentBytes: CLUSTER });
  });

  it('keeps two moments of one disk apart, whichever backup ends first', async () => {
    const random = new SeededRandom(17);
    for (const firstEndsFirst of [true, false]) {
      const sizeBytes = 8 * MiB;
      const targets = [new MemoryNode({ sizeBytes }), new MemoryNode({ sizeBytes })] as const;
      const disk = makeDisk({ sizeBytes, target: targets[0] });
      disk.graph.add({ name: 'target1' }, () => targets[1]);
      await disk.guest.write(0, random.bytes(sizeBytes));
      const write = () => disk.guest.write(random.int(0, sizeBytes - 5000), random.bytes(5000));
      const first = backupOf(disk, { speedBytesPerSecond: 1 });
      await runTransaction(disk.graph, [first]);
      const moments = [await contents(disk.source)];
      for (let i = 0; i < 10; i++) await write();
      const options = { id: 'backup1', target: 'target1', filterNodeName: 'filter1', speedBytesPerSecond: 1 };
      const second = backupOf(disk, options);
      await runTransaction(disk.graph, [second]);
      moments.push(await contents(disk.source));
      for (const action of firstEndsFirst ? [first, second] : [second, first]) {
        for (let i = 0; i < 10; i++) await write();
        action.job!.setSpeed(0);
        await action.job!.concluded;
      }
      expect((await contents(targets[0])).equals(moments[0]!)).toBe(true);
      expect((await contents(targets[1])).equals(moments[1]!)).toBe(true);
      expect([...disk.graph.nodes].map(node => node.name)).toEqual(['disk', 'target', 'target1']);
    }
  });

  it('refuses a writer below its filter, naming both users', async () => {
    const target = new FaultyNode(new MemoryNode({ sizeBytes: 1 * MiB }));
    const disk = makeDisk({ sizeBytes: 1 * MiB, target });
    await disk.guest.write(0, fill(1, CLUSTER));
    target.pause();
    const action = backupOf(disk);
    await runTransaction(disk.graph, [action]);
    const options = { user: "export 'other'", uses: PERMISSION.write };
    expect(() => disk.graph.attach('disk', options)).toThrow(
      "Permission conflict on node 'disk': permissions 'write' are both required by an unnamed block device " +
        "(uses node 'disk' as 'root' child) and unshared by node 'filter' (uses node 'disk' as 'file' child).",
    );
    target.release();
    await action.job!.concluded;
  });
});

describe('copy-before-write that fails', () => {
  /** The job copies its first MiB and then waits for its speed limit, so that the guest comes first at `GUEST`. */
  const GUEST = 3 * MiB;
  async function slowBackup(errno: string, onCbwError: 'break-guest-write' | 'break-snapshot') {
    const target = new MemoryNode({ sizeBytes: 4 * MiB });
    const rules = [{ event: 'write', offset: GUEST, errno, once: true } as const];
    const disk = makeDisk({ sizeBytes: 4 * MiB, target: new FaultyNode(target, { rules }) });
    await disk.guest.write(0, fill(1, 4 * MiB));
    const action = backupOf(disk, { speedBytesPerSecond: 1, onCbwError });
    await runTransaction(disk.graph, [action]);
    return { disk, target, job: action.job! };
  }

  it('fails the guest write under break-guest-write, keeps the moment, and lets the retry pass', async () => {
    const { disk, target, job } = await slowBackup('EIO', 'break-guest-write');
    await expect(disk.guest.write(GUEST, fill(2, 512))).rejects.toMatchObject({ kind: 'io' });
    expect((await contents(disk.source))[GUEST]).toBe(1);
    await disk.guest.write(GUEST, fill(2, 512));
    job.setSpeed(0);
    await job.concluded;
    expect(job.error).toBeUndefined();
    expect((await contents(target)).equals(fill(1, 4 * MiB))).toBe(true);
  });

  it('comes back to a cluster whose guest copy failed', async () => {
    const { disk, target, job } = await slowBackup('EIO', 'break-guest-write');
    await expect(disk.guest.write(GUEST, fill(2, 512))).rejects.toMatchObject({ kind: 'io' });
    job.setSpeed(0);
    await job.concluded;
    expect((await contents(target)).equals(fill(1, 4 * MiB))).toBe(true);
  });

  it('lets the guest go on under break-snapshot, and ends the job with the reason', async () => {
    const { disk, job } = await slowBackup('ENOSPC', 'break-snapshot');
    await disk.guest.write(GUEST, fill(2, 512));
    expect((await contents(disk.source))[GUEST]).toBe(2);
    job.setSpeed(0);
    await job.concluded;
    expect(job.error?.message).toMatch(/frozen moment was given up.*ENOSPC/);
    expect(disk.graph.has('filter')).toBe(false);
  });

  it('gives the guest back its disk when the target hangs longer than the time-out', async () => {
    const target = new FaultyNode(new MemoryNode({ sizeBytes: 1 * MiB }));
    const disk = makeDisk({ sizeBytes: 1 * MiB, target });
    await disk.guest.write(0, fill(1, 1 * MiB));
    target.pause();
    const action = backupOf(disk, { onCbwError: 'break-snapshot', cbwTimeoutMs: 30, workers: 1 });
    await runTransaction(disk.graph, [action]);
    await disk.guest.write(0, fill(2, 512));
    expect((await contents(disk.source))[0]).toBe(2);
    target.release();
    await action.job!.concluded;
    expect(action.job!.error?.message).toMatch(/took longer than 30 ms/);
  });
});

describe('cancel, pause and failure of a backup', () => {
  it('leaves no filter, no job and a free disk after cancel', async () => {
    const target = new FaultyNode(new MemoryNode({ sizeBytes: 1 * MiB }));
    const disk = makeDisk({ sizeBytes: 1 * MiB, target });
    await disk.guest.write(0, fill(1, 1 * MiB));
    target.pause();
    const action = backupOf(disk, { workers: 1 });
    await runTransaction(disk.graph, [action]);
    await target.untilHeld(1);
    action.job!.cancel();
    const write = disk.guest.write(0, fill(2, 512));
    target.release();
    await write;
    await action.job!.concluded;
    expect(action.job!.error?.kind).toBe('cancelled');
    expect(disk.jobs.all).toEqual([]);
    expect([...disk.graph.nodes].map(node => node.name)).toEqual(['disk', 'target']);
    const events = disk.jobs.eventsAfter(0).map(({ event }) => event);
    expect(events.filter(event => event.type === 'job-cancelled')).toHaveLength(1);
    expect(events.at(-1)).toMatchObject({ state: 'null' });
  });

  it.each(['bitmap', 'full'] as const)(
    'keeps the bits of what no flush has made certain, bitmap mode always, sync %s',
    async sync => {
      const target = new FaultyNode(new MemoryNode({ sizeBytes: 1 * MiB }));
      const disk = makeDisk({ sizeBytes: 1 * MiB, target });
      const anchor = addBitmap({ node: 'disk', name: 'b', granularityBytes: CLUSTER });
      await runTransaction(disk.graph, [anchor]);
      await disk.guest.write(0, fill(7, 3 * CLUSTER));
      target.addRule({ event: 'flush', errno: 'EIO', once: true });
      const action = backupOf(disk, { sync, bitmap: 'b', bitmapMode: 'always' });
      await runTransaction(disk.graph, [action]);
      await action.job!.concluded;
      expect(action.job!.error?.kind).toBe('io');
      const { bits } = disk.graph.get('disk').bitmaps.get('b');
      expect(bits.dirtyGranules).toBe(sync === 'full' ? bits.granules : 3);
    },
  );

  it('waits ten seconds at most for the last flush of a cancelled job, and then trusts no copy', async () => {
    const clock = new ManualClock();
    const target = new FaultyNode(new MemoryNode({ sizeBytes: 1 * MiB }));
    const disk = makeDisk({ sizeBytes: 1 * MiB, target });
    await runTransaction(disk.graph, [addBitmap({ node: 'disk', name: 'b', granularityBytes: CLUSTER })]);
    await disk.guest.write(0, fill(7, 3 * CLUSTER));
    const small = { workers: 1, chunkBytesMax: CLUSTER, speedBytesPerSecond: 1 };
    const action = backupOf(disk, { clock, ...small, bitmap: 'b', bitmapMode: 'always' });
    await runTransaction(disk.graph, [action]);
    await clock.advance(0);
    target.pause(event => event === 'flush');
    action.job!.cancel();
    await clock.advance(9_999);
    expect(action.job!.state).toBe('aborting');
    await clock.advance(1);
    expect(action.job!.state).toBe('null');
    expect(action.job!.progress().currentBytes).toBe(CLUSTER);
    expect(disk.graph.get('disk').bitmaps.get('b').bits.dirtyGranules).toBe(3);
    target.release();
  });

  it('reports the first error of its own copies and gives the disk back', async () => {
    const memory = new MemoryNode({ sizeBytes: 1 * MiB });
    const source = new FaultyNode(memory);
    const disk = makeDisk({ sizeBytes: 1 * MiB, source, target: new MemoryNode({ sizeBytes: 1 * MiB }) });
    await disk.guest.write(0, fill(1, 1 * MiB));
    source.addRule({ event: 'read', errno: 'EIO', once: true });
    const action = backupOf(disk);
    await runTransaction(disk.graph, [action]);
    await action.job!.concluded;
    expect(action.job!.error).toMatchObject({ kind: 'io', context: { errno: 'EIO' } });
    expect(disk.graph.has('filter')).toBe(false);
    await disk.guest.write(0, fill(3, 512));
  });
});

describe('increments', () => {
  it('copy just what changed since the base, for any base, while writes go on', async () => {
    const random = new SeededRandom(99);
    const sizeBytes = 16 * MiB;
    const target = new MemoryNode({ sizeBytes });
    const disk = makeDisk({ sizeBytes, target });
    const write = () => disk.guest.write(random.int(0, sizeBytes - 5000), random.bytes(random.int(1, 5000)));
    for (let i = 0; i < 30; i++) await write();
    const at = (name: string) => ({ node: 'disk', name, granularityBytes: CLUSTER });
    const full = backupOf(disk);
    await runTransaction(disk.graph, [addBitmap(at('monday')), full]);
    const monday = await contents(disk.source);
    for (let i = 0; i < 20; i++) await write();
    await full.job!.concluded;
    expect((await contents(target)).equals(monday)).toBe(true);
    await runTransaction(disk.graph, [disableBitmap(at('monday')), addBitmap(at('tuesday'))]);
    for (let i = 0; i < 20; i++) await write();

    const increment = backupOf(disk, { bitmap: 'scratch', bitmapMode: 'never', targetIsZero: false });
    await runTransaction(disk.graph, [
      disableBitmap(at('tuesday')),
      addBitmap(at('wednesday')),
      addBitmap({ ...at('scratch'), recording: false }),
      mergeBitmaps(at('scratch'), [at('monday'), at('tuesday')]),
      increment,
    ]);
    const wednesday = await contents(disk.source);
    const dirtyBytes = disk.graph.get('disk').bitmaps.get('scratch').bits.dirtyBytes;
    for (let i = 0; i < 20; i++) await write();
    await increment.job!.concluded;
    expect((await contents(target)).equals(wednesday)).toBe(true);
    expect(increment.job!.progress().totalBytes).toBe(dirtyBytes);
    expect(dirtyBytes).toBeLessThan(sizeBytes / 2);
    expect(disk.graph.get('disk').bitmaps.get('scratch').busy).toBe(false);
  });
});
