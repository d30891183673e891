// Goal: memory does not grow with the disk, the number of workers or the patience of a target. Method: a backup
// of a sparse disk of 1 TiB with 64 workers to a target that never answers, a guest that writes below it, and
// the resident memory of the daemon as the kernel counts it.
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { testWith } from '../../src/testing/tools.ts';
import { Daemon } from '../oracle/daemon.ts';
import { QemuIo } from '../oracle/qemu-io.ts';

const MiB = 1024 * 1024;
const TiB = 1024 * 1024 * MiB;
const RESIDENT_MAX_MIB = 256;
const WORKERS = 64;
/** Longer than any test: the target hangs. */
const NEVER_NS = 3_600_000_000_000;
const DATA_CHUNK = Buffer.alloc(4 * MiB, 0x5a);
const DATA_CHUNKS = 64;
/** Time for every worker and guest to have something on its way. */
const SETTLE_MS = 3000;

testWith(['qemu-io'], 'a stuck backup of 1 TiB with 64 workers stays below 256 MiB', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'tidemark-daemon-memory-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, 'disk');
  await makeSparse(path);
  const daemon = await Daemon.start({ side: 'tidemark', folder });
  onTestFinished(() => daemon.kill());
  const ask = async (command: string, args: object): Promise<void> => {
    const { error } = await daemon.qmp.execute(command, args);
    if (error !== undefined) throw new Error(`${command}: ${error.desc}`);
  };
  const before = await peakMiB(daemon.pid);
  await ask('blockdev-add', { driver: 'raw', 'node-name': 'disk', file: { driver: 'file', filename: path } });
  await ask('blockdev-add', { driver: 'null-co', 'node-name': 'stuck', size: TiB, 'latency-ns': NEVER_NS });
  await ask('block-dirty-bitmap-add', { node: 'disk', name: 'changed' });
  const socket = join(folder, 'nbd.sock');
  await ask('nbd-server-start', { addr: { type: 'unix', data: { path: socket } } });
  await ask('block-export-add', { type: 'nbd', id: 'guest', 'node-name': 'disk', writable: true });
  const job = { 'job-id': 'job', device: 'disk', target: 'stuck', sync: 'full' };
  await ask('blockdev-backup', { ...job, 'x-perf': { 'max-workers': WORKERS } });
  const guests = await Promise.all(
    Array.from({ length: 4 }, () => QemuIo.open(`nbd+unix:///disk?socket=${socket}`)),
  );
  onTestFinished(() => {
    for (const guest of guests) guest.kill();
  });
  // Each waits for its copy, which never ends: a full queue of a guest's requests.
  for (const [index, guest] of guests.entries()) {
    for (let at = 0; at < 16; at++)
      void guest.run(`aio_write -P 1 ${(index * 16 + at) * 8}M 4M`).catch(() => 0);
  }
  await new Promise(resolve => setTimeout(resolve, SETTLE_MS));
  const peak = await peakMiB(daemon.pid);
  expect(peak, `resident at most, ${before.toFixed(0)} MiB at the start`).toBeLessThan(RESIDENT_MAX_MIB);
  const cancelled = daemon.qmp.nextEvent('the cancel', ({ event }) => event === 'BLOCK_JOB_CANCELLED');
  cancelled.catch(() => undefined);
  await ask('job-cancel', { id: 'job' });
});

/** Data in pieces all over the disk. */
async function makeSparse(path: string): Promise<void> {
  const file = await open(path, 'w');
  await file.truncate(TiB);
  const step = TiB / DATA_CHUNKS;
  for (let chunk = 0; chunk < DATA_CHUNKS; chunk++) {
    await file.write(DATA_CHUNK, 0, DATA_CHUNK.length, chunk * step);
  }
  await file.close();
}

/** The most that was ever resident. */
async function peakMiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
}
