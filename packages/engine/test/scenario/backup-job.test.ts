// Goal: a backup job keeps its speed, pauses, fails and ends as scenario groups 5, 8 and 9 say. Method: a
// disk of 1 MiB in memory with faults and holds under test control, and a clock that the test moves.
import { describe, expect, it } from 'vitest';
import { ON_ERROR, type OnError } from '../../src/job/error-policy.ts';
import type { JobEvent } from '../../src/job/job-event.ts';
import { FaultyNode } from '../../src/testing/faulty-node.ts';
import { ManualClock, settled } from '../../src/testing/manual-clock.ts';
import { MemoryNode } from '../../src/testing/memory-node.ts';
import type { BackupActionOptions } from '../../src/transaction/backup-action.ts';
import { addBitmap } from '../../src/transaction/bitmap-actions.ts';
import { runTransaction } from '../../src/transaction/transaction.ts';
import { KiB, MiB } from '../../src/units.ts';
import { backupOf, CLUSTER, contents, makeDisk } from './disk-fixture.ts';

const SIZE = 1 * MiB;
const fill = (byte: number, length: number) => Buffer.alloc(length, byte);

/** A disk that is written all over, with a job on it. */
async function started(options: Partial<BackupActionOptions> = {}) {
  const clock = new ManualClock();
  const source = new FaultyNode(new MemoryNode({ sizeBytes: SIZE }));
  const memory = new MemoryNode({ sizeBytes: SIZE });
  const target = new FaultyNode(memory);
  const disk = makeDisk({ sizeBytes: SIZE, source, target });
  await disk.guest.write(0, fill(1, SIZE));
  const begin = async (more: Partial<BackupActionOptions> = {}) => {
    const action = backupOf(disk, { clock, chunkBytesMax: CLUSTER, ...options, ...more });
    await runTransaction(disk.graph, [action]);
    await settled();
    return action.job!;
  };
  const events = () =>
    disk.jobs.eventsAfter(0).flatMap(({ event }): Partial<JobEvent>[] => {
      if (event.type === 'job-status') return [];
      if (event.type === 'job-error')
        return [{ type: event.type, operation: event.operation, action: event.action }];
      return [{ type: event.type }];
    });
  return { clock, source, target, memory, disk, begin, events };
}

describe('the speed of a job', () => {
  it('is the same steps on any machine: four of 64 KiB a second at 256 KiB/s', async () => {
    const { clock, begin } = await started({ speedBytesPerSecond: 262144 });
    const job = await begin();
    const seen: number[] = [];
    for (let quarter = 0; quarter < 8; quarter++) {
      seen.push(job.progress().currentBytes);
      await clock.advance(250);
    }
    expect(seen).toEqual([1, 2, 3, 4, 5, 6, 7, 8].map(step => step * CLUSTER));
  });

  it('of 64 KiB/s is one step of 64 KiB in the first slice', async () => {
    const { clock, begin } = await started({ speedBytesPerSecond: 65536 });
    const job = await begin();
    await clock.advance(999);
    expect(job.progress().currentBytes).toBe(65536);
    await clock.advance(1);
    expect(job.progress().currentBytes).toBe(131072);
  });

  it('goes on where it stood after each pause, one step at a time', async () => {
    const { clock, begin } = await started({ speedBytesPerSecond: 262144 });
    const job = await begin();
    for (let step = 1; step < 5; step++) {
      job.pause();
      await settled();
      expect(job.info()).toMatchObject({ state: 'paused', currentBytes: step * CLUSTER });
      await clock.advance(5000);
      expect(job.progress().currentBytes).toBe(step * CLUSTER);
      job.resume();
      await settled();
    }
  });

  it('does not hold back a job that has nothing left to copy', async () => {
    const { begin } = await started({ speedBytesPerSecond: 1, chunkBytesMax: MiB });
    const job = await begin();
    await job.concluded;
    expect(job.progress()).toMatchObject({ currentBytes: SIZE, totalBytes: SIZE });
  });

  it('set to none lets the job end at once', async () => {
    const { begin } = await started({ speedBytesPerSecond: 1 });
    const job = await begin();
    job.setSpeed(0);
    await job.concluded;
    expect(job.error).toBeUndefined();
  });

  it.each([false, true])('counts zeroes: %s', async speedCountsZeroes => {
    const clock = new ManualClock();
    const disk = makeDisk({ sizeBytes: SIZE, target: new MemoryNode({ sizeBytes: SIZE }) });
    const action = backupOf(disk, {
      clock,
      speedBytesPerSecond: 65536,
      speedCountsZeroes,
      chunkBytesMax: CLUSTER,
    });
    await runTransaction(disk.graph, [action]);
    await settled();
    expect(action.job!.progress().currentBytes).toBe(speedCountsZeroes ? 65536 : SIZE);
  });
});

describe('an error of the job itself', () => {
  // What each policy does about EIO and about ENOSPC.
  const actions: Record<OnError, [string, string]> = {
    report: ['report', 'report'],
    ignore: ['ignore', 'ignore'],
    enospc: ['report', 'stop'],
    stop: ['stop', 'stop'],
    auto: ['report', 'stop'],
  };
  const cells = ON_ERROR.flatMap(policy =>
    ['EIO', 'ENOSPC'].flatMap((errno, column) =>
      (['read', 'write'] as const).map(
        operation => [operation, errno, policy, actions[policy][column]!] as const,
      ),
    ),
  );

  it.each(cells)('%s %s under %s: %s', async (operation, errno, policy, action) => {
    const { source, target, memory, begin, events } = await started({ workers: 1 });
    (operation === 'read' ? source : target).addRule({
      event: operation,
      offset: 5 * CLUSTER,
      errno,
      once: true,
    });
    const job = await begin({ [operation === 'read' ? 'onSourceError' : 'onTargetError']: policy });
    expect(events()[0]).toEqual({ type: 'job-error', operation, action });
    if (action === 'stop') {
      const ioStatus = errno === 'ENOSPC' ? 'nospace' : 'failed';
      expect(job.info()).toMatchObject({
        state: 'paused',
        userPaused: true,
        ioStatus,
        currentBytes: 5 * CLUSTER,
      });
      expect(() => job.pause()).toThrow('Job is already paused');
      expect(() => job.dismiss()).toThrow(
        "Job 'backup0' in state 'paused' cannot accept command verb 'dismiss'",
      );
      job.resume();
      expect(job.info().ioStatus).toBe('ok');
    }
    await job.concluded;
    expect(events().slice(1)).toEqual([{ type: 'job-completed' }]);
    expect(job.error?.context.errno).toBe(action === 'report' ? errno : undefined);
    if (action !== 'report') expect((await contents(memory)).equals(fill(1, SIZE))).toBe(true);
    expect(job.progress().currentBytes).toBe(action === 'report' ? 5 * CLUSTER : SIZE);
  });

  it('stops the job only when its other requests have ended, and comes once for all of them', async () => {
    const { target, begin, events } = await started({ workers: 4, onTargetError: 'stop' });
    target.addRule({ event: 'write', offset: 3 * CLUSTER, errno: 'EIO', once: true });
    target.pause((_event, offset) => offset === 2 * CLUSTER);
    const job = await begin();
    expect(job.state).toBe('running');
    target.release();
    await settled();
    expect(job.state).toBe('paused');
    expect(events()).toHaveLength(1);
    job.resume();
    await job.concluded;
    expect(job.error).toBeUndefined();
  });

  it('that stays and is ignored is tried again at intervals, not as fast as it can', async () => {
    const { clock, target, begin, events } = await started({ workers: 1, onTargetError: 'ignore' });
    target.addRule({ event: 'write', offset: 0, errno: 'EIO' });
    const job = await begin();
    await clock.advance(1000);
    expect(events().length).toBeGreaterThan(5);
    expect(events().length).toBeLessThan(15);
    target.clearRules();
    await clock.advance(1000);
    await job.concluded;
    expect(job.error).toBeUndefined();
  });

  it('keeps the bits of what is not on the target under bitmap mode always', async () => {
    const { disk, target, begin } = await started({ workers: 1 });
    const bitmap = { node: 'disk', name: 'b', granularityBytes: CLUSTER };
    await runTransaction(disk.graph, [addBitmap(bitmap)]);
    for (const cluster of [2, 4, 6]) await disk.guest.write(cluster * CLUSTER, fill(2, 512));
    target.addRule({ event: 'write', offset: 4 * CLUSTER, errno: 'EIO' });
    const job = await begin({ sync: 'bitmap', bitmap: 'b', bitmapMode: 'always' });
    await job.concluded;
    const { bits, busy } = disk.graph.get('disk').bitmaps.get('b');
    expect([2, 4, 6].map(cluster => bits.get(cluster * CLUSTER))).toEqual([false, true, true]);
    expect(busy).toBe(false);
  });
});

describe('sync modes', () => {
  it('none copies what guests overwrite, and nothing else, until it is cancelled', async () => {
    const { disk, memory, begin } = await started({ sync: 'none' });
    const job = await begin();
    await disk.guest.write(3 * CLUSTER + 5, fill(2, 10));
    expect(job.progress()).toMatchObject({ currentBytes: CLUSTER, totalBytes: SIZE });
    expect((await contents(memory)).subarray(3 * CLUSTER, 4 * CLUSTER).equals(fill(1, CLUSTER))).toBe(true);
    job.cancel();
    await job.concluded;
    expect(memory.counts.write).toBe(1);
  });

  it('none ends with the reason when its moment is lost', async () => {
    const { disk, target, begin } = await started({ sync: 'none', onCbwError: 'break-snapshot' });
    const job = await begin();
    target.addRule({ event: 'write', errno: 'ENOSPC' });
    await disk.guest.write(0, fill(2, 512));
    await job.concluded;
    expect(job.error).toMatchObject({ kind: 'denied' });
    expect(job.error?.message).toMatch(/given up.*ENOSPC/);
  });

  it('a lost moment ends a job that waits for its speed limit', async () => {
    const { disk, target, begin } = await started({ speedBytesPerSecond: 1, onCbwError: 'break-snapshot' });
    const job = await begin();
    target.addRule({ event: 'write', errno: 'EIO' });
    await disk.guest.write(9 * CLUSTER, fill(2, 512));
    await job.concluded;
    expect(job.error?.kind).toBe('denied');
    expect(disk.graph.has('filter')).toBe(false);
  });
});

describe('the end of a job', () => {
  it('comes also when the target hangs, and nothing reaches the target afterwards', async () => {
    const { disk, target, memory, begin } = await started({ workers: 2 });
    // A peer that hangs, and is given up when the job is cancelled.
    Object.assign(target, { cancelInFlight: () => target.release() });
    target.addRule({ event: 'write', errno: 'ESHUTDOWN' });
    target.pause();
    const job = await begin();
    job.cancel();
    await job.concluded;
    const writes = memory.counts.write;
    await disk.guest.write(0, fill(2, SIZE));
    expect(memory.counts.write).toBe(writes);
    expect(disk.graph.get('target').writers.size + disk.graph.get('target').blockers.size).toBe(0);
  });

  it('by cancel fails no guest whose copy is under way', async () => {
    const { disk, target, begin } = await started({ speedBytesPerSecond: 1 });
    Object.assign(target, { cancelInFlight: () => target.release() });
    const job = await begin();
    target.addRule({ event: 'write', errno: 'ESHUTDOWN' });
    target.pause();
    const write = disk.guest.write(9 * CLUSTER, fill(2, 512));
    await settled();
    job.cancel();
    await write;
    await job.concluded;
    expect((await contents(disk.graph.get('disk')))[9 * CLUSTER]).toBe(2);
  });

  it('is waited for by a drain of the target, which sees no write half done', async () => {
    const { disk, target, begin } = await started({ workers: 4 });
    target.pause();
    const job = await begin();
    let drained = false;
    const drain = disk.graph.drained([disk.graph.get('target')], () => {
      drained = true;
      expect(target.heldCount).toBe(0);
    });
    await settled();
    expect(drained).toBe(false);
    target.release();
    await drain;
    await job.concluded;
    expect(job.error).toBeUndefined();
  });

  it('keeps others off the target until then', async () => {
    const { disk, target, begin } = await started();
    target.pause();
    const job = await begin();
    const second = backupOf(disk, { id: 'second', filterNodeName: 'second' });
    await expect(runTransaction(disk.graph, [second])).rejects.toThrow(
      "Node 'target' is busy: block device is in use by block job: backup",
    );
    target.release();
    await job.concluded;
    disk.graph.get('target').assertNotBlocked();
  });

  it('refused for its speed never was a job', async () => {
    const { disk, begin } = await started();
    await expect(begin({ speedBytesPerSecond: -1 })).rejects.toThrow("Parameter 'speed' expects");
    await settled();
    const states = disk.jobs.eventsAfter(0).map(({ event }) => event.type === 'job-status' && event.state);
    expect(states).toEqual(['created', 'null']);
    expect([...disk.graph.nodes].map(node => node.name)).toEqual(['disk', 'target']);
  });

  it.each([
    [{ chunkBytesMax: 4 * KiB }, 'Required max-chunk (4096) is less than backup cluster size (65536)'],
    [{ chunkBytesMax: -1 }, 'max-chunk must be zero (which means no limit) or positive'],
    [{ workers: 0 }, 'max-workers must be between 1 and 2147483647'],
    [{ minClusterBytes: 100_000 }, 'min-cluster-size needs to be a power of 2'],
    [{ minClusterBytes: 2 ** 26 }, 'min-cluster-size too large: 67108864 > 33554432'],
    [{ chunkBytesMax: 64 * KiB, minClusterBytes: 128 * KiB }, 'less than backup cluster size (131072)'],
    [{ compressed: true }, 'Compression is not supported for this drive '],
    [{ filterNodeName: 'disk' }, 'Could not create node: '],
  ])('%o is refused, with nothing left behind', async (options, text) => {
    const { disk, begin } = await started();
    await expect(begin(options)).rejects.toThrow(text);
    await settled();
    expect(disk.jobs.all).toEqual([]);
    expect([...disk.graph.nodes].map(node => node.name)).toEqual(['disk', 'target']);
    expect(disk.graph.get('target').blockers.size).toBe(0);
  });
});
