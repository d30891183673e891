// `tidemark-storage-daemon` beside `qemu-storage-daemon`: the same QMP commands to both, in turn, each result
// checked before its time counts.

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Side } from '../../apps/storage-node/test/oracle/daemon.ts';
import { QemuIo } from '../../apps/storage-node/test/oracle/qemu-io.ts';
import { makeSource } from './disk.ts';
import { type RequestResult, requests, timed } from './load.ts';
import { run } from './program.ts';
import { openFile, type Running, withDaemon } from './running-daemon.ts';
import type { Scale } from './scale.ts';

export const SIDES: readonly Side[] = ['tidemark', 'qemu'];

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
const TiB = 1024 * GiB;
const CLUSTER = 64 * KiB;
/** One cluster in so many is written to between full backup and increment: 5 %. */
const SCATTER = 20;
const MERGED_BITMAPS = 100;
/** Per bitmap: this many stretches of this length, anywhere on the disk. */
const STRETCHES = 10;
const STRETCH_BYTES = 256 * MiB;
/** How long a write to the fast target takes, and to the slow one. */
const FAST_NS = 100_000;
const SLOW_NS = 100 * FAST_NS;

export interface DaemonFigures {
  /** Seconds by side. */
  readonly full: Record<Side, number[]>;
  readonly increment: Record<Side, number[]>;
  /** Full backups to a raw file: bytes through the daemon, and moved by the kernel. */
  readonly raw: Record<Side, number[]>;
  readonly copyRange: Record<Side, number[]>;
  readonly merge: Record<Side, number[]>;
  /** What a guest feels, by side. */
  readonly latency: readonly { readonly title: string; readonly results: Record<Side, RequestResult> }[];
}

async function backUp({ daemon, ask }: Running, options: object): Promise<void> {
  const ended = daemon.qmp.nextEvent('the end of the backup', ({ event }) => event === 'BLOCK_JOB_COMPLETED');
  await ask('blockdev-backup', { 'job-id': 'backup', device: 'disk', ...options });
  const { data } = await ended;
  if (data?.error !== undefined) throw new Error(`the backup failed: ${data.error}`);
}

/** Seconds of a full backup and of an increment of 5 % scattered changes, on stable storage. */
async function measureBackups(side: Side, folder: string, bytes: number): Promise<[number, number]> {
  return withDaemon(side, folder, async running => {
    const path = (name: string): string => join(running.folder, name);
    await makeSource(path('disk.raw'), bytes / 2);
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', path('full'), String(bytes)]);
    await running.ask('blockdev-add', openFile('raw', 'disk', path('disk.raw')));
    await running.ask('blockdev-add', openFile('qcow2', 'full', path('full')));
    await running.ask('block-dirty-bitmap-add', { node: 'disk', name: 'changed' });
    const full = await timed(async () => {
      await backUp(running, { target: 'full', sync: 'full' });
      await running.ask('blockdev-del', { 'node-name': 'full' });
      await run('sync', [path('full')]);
    });
    const guest = await QemuIo.open(await running.exportNode('disk'));
    for (let at = 0; at < bytes; at += SCATTER * CLUSTER) await guest.run(`write -P 9 ${at} 4k`);
    await guest.close();
    const backing = ['-b', path('full'), '-F', 'qcow2'];
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', ...backing, path('increment')]);
    const image = { ...openFile('qcow2', 'increment', path('increment')), backing: null };
    await running.ask('blockdev-add', image);
    const increment = await timed(async () => {
      await backUp(running, { target: 'increment', sync: 'incremental', bitmap: 'changed' });
      await running.ask('blockdev-del', { 'node-name': 'increment' });
      await run('sync', [path('increment')]);
    });
    await run('qemu-img', ['compare', '-U', '-q', path('increment'), path('disk.raw')]);
    return [full, increment];
  });
}

/** Seconds of a full backup to a raw file, the bytes read and written, and left to the kernel. */
async function measureRawBackups(side: Side, folder: string, bytes: number): Promise<[number, number]> {
  return withDaemon(side, folder, async running => {
    const disk = join(running.folder, 'disk.raw');
    await makeSource(disk, bytes / 2);
    await running.ask('blockdev-add', openFile('raw', 'disk', disk));
    const seconds: number[] = [];
    for (const inKernel of [false, true]) {
      const target = join(running.folder, `target-${inKernel}`);
      await run('qemu-img', ['create', '-q', '-f', 'raw', target, String(bytes)]);
      await running.ask('blockdev-add', openFile('raw', 'target', target));
      const how = { target: 'target', sync: 'full', 'x-perf': { 'use-copy-range': inKernel } };
      seconds.push(
        await timed(async () => {
          await backUp(running, how);
          await running.ask('blockdev-del', { 'node-name': 'target' });
          await run('sync', [target]);
        }),
      );
      await run('qemu-img', ['compare', '-U', '-q', '-f', 'raw', '-F', 'raw', target, disk]);
      await rm(target);
    }
    return [seconds[0]!, seconds[1]!];
  });
}

/** Seconds of merging 100 bitmaps of 1 TiB at 64 KiB, and the digest of what came out. */
async function measureMerge(side: Side, folder: string): Promise<[number, unknown]> {
  return withDaemon(side, folder, async running => {
    const disk = { driver: 'null-co', 'node-name': 'disk', size: TiB };
    await running.ask('blockdev-add', disk);
    const guest = await QemuIo.open(await running.exportNode('disk'));
    const names = Array.from({ length: MERGED_BITMAPS }, (_, index) => `bitmap-${index}`);
    for (const [index, name] of names.entries()) {
      const bitmap = { node: 'disk', name };
      await running.ask('block-dirty-bitmap-add', { ...bitmap, granularity: CLUSTER });
      for (let stretch = 0; stretch < STRETCHES; stretch++) {
        // Spread over the disk by a step that has no factor in common with it.
        const place = ((index * STRETCHES + stretch) * 2_654_435_761) % (TiB / CLUSTER);
        const at = Math.min(place * CLUSTER, TiB - STRETCH_BYTES);
        await guest.run(`write -z ${at} ${STRETCH_BYTES}`);
      }
      await running.ask('block-dirty-bitmap-disable', bitmap);
    }
    await guest.close();
    const union = { node: 'disk', name: 'union', granularity: CLUSTER };
    await running.ask('block-dirty-bitmap-add', { ...union, disabled: true });
    const seconds = await timed(() =>
      running.ask('block-dirty-bitmap-merge', { node: 'disk', target: 'union', bitmaps: names }),
    );
    const digest = await running.ask('x-debug-block-dirty-bitmap-sha256', { node: 'disk', name: 'union' });
    return [seconds, JSON.stringify(digest)];
  });
}

/** 4 KiB writes one at a time, through copy-before-write to a target of that latency, or without it. */
async function measureLatency(
  side: Side,
  folder: string,
  { targetNs, seconds }: { targetNs: number | undefined; seconds: number },
): Promise<RequestResult> {
  return withDaemon(side, folder, async running => {
    const path = join(running.folder, 'disk.raw');
    await makeSource(path, GiB / 4);
    await running.ask('blockdev-add', openFile('raw', 'disk', path));
    let node = 'disk';
    if (targetNs !== undefined) {
      const target = { driver: 'null-co', 'node-name': 'target', size: GiB / 2, 'latency-ns': targetNs };
      await running.ask('blockdev-add', target);
      node = 'filter';
      const filter = { driver: 'copy-before-write', 'node-name': node, file: 'disk', target: 'target' };
      await running.ask('blockdev-add', filter);
    }
    await run('sync', []);
    const uri = await running.exportNode(node);
    const load = { uri, operation: 'randwrite', blockBytes: 4 * KiB, depth: 1 } as const;
    return requests({ ...load, seconds, rangeBytes: GiB / 2 });
  });
}

const FILTERS: readonly [title: string, targetNs: number | undefined][] = [
  ['without a filter', undefined],
  ['copy-before-write, target of 0.1 ms', FAST_NS],
  ['copy-before-write, target of 10 ms', SLOW_NS],
];

/** Everything, on both sides in turn. Rejects where a result is not what it has to be. */
export async function measureDaemons(
  scale: Scale,
  { folder, onProgress }: { folder: string; onProgress: (text: string) => void },
): Promise<DaemonFigures> {
  const none = (): Record<Side, number[]> => ({ qemu: [], tidemark: [] });
  const [full, increment, raw, copyRange, merge] = [none(), none(), none(), none(), none()];
  const digests = new Set<unknown>();
  for (let round = 0; round < scale.backupRounds; round++) {
    for (const side of round % 2 === 0 ? SIDES : SIDES.toReversed()) {
      onProgress(`${side} daemon: backups ${round + 1} of ${scale.backupRounds}`);
      const [fullSeconds, incrementSeconds] = await measureBackups(side, folder, scale.dataBytes / 4);
      full[side].push(fullSeconds);
      increment[side].push(incrementSeconds);
      const [throughDaemon, inKernel] = await measureRawBackups(side, folder, scale.dataBytes / 4);
      raw[side].push(throughDaemon);
      copyRange[side].push(inKernel);
      onProgress(`${side} daemon: merge ${round + 1} of ${scale.backupRounds}`);
      const [seconds, digest] = await measureMerge(side, folder);
      merge[side].push(seconds);
      digests.add(digest);
    }
  }
  if (digests.size !== 1) throw new Error('the merged bitmaps differ');
  const latency = [];
  for (const [title, targetNs] of FILTERS) {
    const results = {} as Record<Side, RequestResult>;
    for (const side of SIDES) {
      onProgress(`${side} daemon: latency ${title}`);
      results[side] = await measureLatency(side, folder, { targetNs, seconds: scale.latencySeconds });
    }
    latency.push({ title, results });
  }
  return { full, increment, raw, copyRange, merge, latency };
}
