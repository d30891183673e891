// qcow2 in our hands beside QEMU's: requests to a fully allocated image over NBD, a commit, conversions. What comes out
// is compared before its time counts.

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Side } from '../../apps/storage-node/test/oracle/daemon.ts';
import { SIDES } from './daemons.ts';
import { makeSource } from './disk.ts';
import { type RequestLoad, requests, timed } from './load.ts';
import { run } from './program.ts';
import { openFile, type Running, withDaemon } from './running-daemon.ts';
import type { Scale } from './scale.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const IMAGE_TOOL = fileURLToPath(new URL('../../apps/storage-node/bin/tidemark-image.mjs', import.meta.url));

export interface ImageFigures {
  readonly rates: readonly { title: string; unit: string; values: Record<Side, number[]> }[];
  /** Seconds. */
  readonly times: readonly { title: string; values: Record<Side, number[]> }[];
}

type Load = Pick<RequestLoad, 'operation' | 'blockBytes' | 'depth'>;

const LOADS: readonly (Load & { title: string })[] = [
  { title: 'qcow2, 4 KiB random read, 16 deep', operation: 'randread', blockBytes: 4 * KiB, depth: 16 },
  { title: 'qcow2, 4 KiB random write, 16 deep', operation: 'randwrite', blockBytes: 4 * KiB, depth: 16 },
  { title: 'qcow2, sequential read of 1 MiB, 4 deep', operation: 'read', blockBytes: MiB, depth: 4 },
  { title: 'qcow2, sequential write of 1 MiB, 4 deep', operation: 'write', blockBytes: MiB, depth: 4 },
];

interface Files {
  readonly folder: string;
  /** A raw image of that many bytes of data, and as many of hole. */
  readonly source: string;
  readonly dataBytes: number;
}

/** Requests a second, by load. */
async function measureRequests(
  side: Side,
  { folder, source, dataBytes }: Files,
  seconds: number,
): Promise<number[]> {
  return withDaemon(side, folder, async running => {
    const path = join(running.folder, 'disk.qcow2');
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', source, path]);
    await run('sync', [path]);
    await running.ask('blockdev-add', openFile('qcow2', 'disk', path));
    const uri = await running.exportNode('disk');
    const found: number[] = [];
    for (const { operation, blockBytes, depth } of LOADS) {
      const load = { uri, operation, blockBytes, depth, seconds, rangeBytes: dataBytes };
      found.push((await requests(load)).requestsPerSecond);
    }
    await running.daemon.quit();
    await run('qemu-img', ['check', '-q', path]);
    return found;
  });
}

/** Seconds from the command to the end of the job and its data on stable storage. */
async function measureCommit(side: Side, { folder, source, dataBytes }: Files): Promise<number> {
  return withDaemon(side, folder, async running => {
    const [base, top] = [join(running.folder, 'base'), join(running.folder, 'top')];
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', base, String(2 * dataBytes)]);
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', '-B', base, '-F', 'qcow2', source, top]);
    await run('sync', [top]);
    await running.ask('blockdev-add', openFile('qcow2', 'top', top));
    const seconds = await timed(async () => {
      await commit(running);
      await run('sync', [base]);
    });
    await running.daemon.quit();
    await run('qemu-img', ['check', '-q', base]);
    await run('qemu-img', ['compare', '-q', '-f', 'qcow2', '-F', 'raw', base, source]);
    return seconds;
  });
}

async function commit({ ask, daemon }: Running): Promise<void> {
  const ready = daemon.qmp.nextEvent('a job that is ready', ({ event }) => event === 'BLOCK_JOB_READY');
  const ended = daemon.qmp.nextEvent('the end of the job', ({ event }) => event === 'BLOCK_JOB_COMPLETED');
  await ask('block-commit', { 'job-id': 'commit', device: 'top' });
  await ready;
  await ask('job-complete', { id: 'commit' });
  const { data } = await ended;
  if (data?.error !== undefined) throw new Error(`the commit failed: ${data.error}`);
}

const ZSTD = ['-c', '-o', 'compression_type=zstd'];

async function measureConvert(
  side: Side,
  { folder, source }: Files,
  options: readonly string[],
): Promise<number> {
  const target = join(folder, `converted-${side}`);
  const parameters = ['convert', '-f', 'raw', '-O', 'qcow2', ...options, source, target];
  const seconds = await timed(async () => {
    if (side === 'qemu') await run('qemu-img', parameters);
    else await run(process.execPath, [IMAGE_TOOL, ...parameters]);
    await run('sync', [target]);
  });
  await run('qemu-img', ['check', '-q', target]);
  await run('qemu-img', ['compare', '-q', '-f', 'qcow2', '-F', 'raw', target, source]);
  await rm(target);
  return seconds;
}

/** Everything, on both sides in turn. Rejects where a result is not what it has to be. */
export async function measureImages(
  scale: Scale,
  { folder, onProgress }: { folder: string; onProgress: (text: string) => void },
): Promise<ImageFigures> {
  const none = (): Record<Side, number[]> => ({ qemu: [], tidemark: [] });
  const rates = LOADS.map(({ title }) => ({ title, unit: 'requests/s', values: none() }));
  const commits = { title: `commit of ${scale.dataBytes / 2 / MiB} MiB`, values: none() };
  const plain = { title: 'convert raw to qcow2', values: none() };
  const zstd = { title: 'convert raw to qcow2 with zstd', values: none() };
  const source = join(folder, 'images.raw');
  const files = { folder, source, dataBytes: scale.dataBytes / 2 };
  await makeSource(source, files.dataBytes);
  for (let round = 0; round < scale.backupRounds; round++) {
    for (const side of round % 2 === 0 ? SIDES : SIDES.toReversed()) {
      onProgress(`${side}: images ${round + 1} of ${scale.backupRounds}`);
      const found = await measureRequests(side, files, scale.seconds);
      for (const [index, rate] of found.entries()) rates[index]!.values[side].push(rate);
      commits.values[side].push(await measureCommit(side, files));
      plain.values[side].push(await measureConvert(side, files, []));
      zstd.values[side].push(await measureConvert(side, files, ZSTD));
    }
  }
  await rm(source);
  return { rates, times: [commits, plain, zstd] };
}
