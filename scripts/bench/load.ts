// Load on an NBD server from programs of others: fio's NBD engine for requests of one size, libnbd's nbdcopy
// for whole disks.

import { run } from './program.ts';

export interface RequestLoad {
  readonly uri: string;
  readonly operation: 'randread' | 'randwrite' | 'read' | 'write';
  readonly blockBytes: number;
  /** Requests in flight. */
  readonly depth: number;
  readonly seconds: number;
  /** Bytes from the start of the disk that are touched. */
  readonly rangeBytes: number;
}

export interface RequestResult {
  readonly requestsPerSecond: number;
  /** Microseconds from submission to completion. */
  readonly latency: { readonly p50: number; readonly p99: number; readonly max: number };
}

interface FioSide {
  iops: number;
  clat_ns: { max: number; percentile: Record<string, number> };
}

/** Requests for a while, from one connection. */
export async function requests(load: RequestLoad): Promise<RequestResult> {
  const output = await run('fio', [
    ...fioArguments(load),
    ...['--time_based=1', '--norandommap=1'],
    `--runtime=${Math.round(load.seconds * 1000)}ms`,
    '--output-format=json',
  ]);
  // fio puts notes of its NBD engine in front of the report.
  const report = JSON.parse(output.slice(output.indexOf('{'))) as { jobs: Record<string, FioSide>[] };
  const side = report.jobs[0]![load.operation.endsWith('read') ? 'read' : 'write']!;
  const { max, percentile } = side.clat_ns;
  const micros = (name: string): number => (percentile[name] ?? Number.NaN) / 1000;
  return {
    requestsPerSecond: side.iops,
    latency: { p50: micros('50.000000'), p99: micros('99.000000'), max: max / 1000 },
  };
}

/** Writes random data at random and reads every block back; rejects when one differs. */
export async function verifyWrites(uri: string, rangeBytes: number): Promise<void> {
  const load = { uri, operation: 'randwrite', blockBytes: 4096, depth: 16, seconds: 0, rangeBytes } as const;
  await run('fio', [...fioArguments(load), '--verify=crc32c', '--verify_fatal=1', '--verify_state_save=0']);
}

function fioArguments({ uri, operation, blockBytes, depth, rangeBytes }: RequestLoad): string[] {
  return [
    ...['--name=bench', '--ioengine=nbd', `--uri=${uri}`, `--rw=${operation}`, `--bs=${blockBytes}`],
    ...[`--iodepth=${depth}`, `--size=${rangeBytes}`, '--randrepeat=0', '--thread'],
  ];
}

const NBDCOPY = ['--connections=4', '--requests=64'];

/** Seconds that reading all data of the disk takes. */
export function copyOut(uri: string): Promise<number> {
  return timed(() => run('nbdcopy', [...NBDCOPY, uri, 'null:']));
}

/** Seconds that writing the file to the disk takes; holes of the file are made holes of the disk. */
export function copyIn(path: string, uri: string): Promise<number> {
  return timed(() => run('nbdcopy', [...NBDCOPY, '--destination-is-zero', path, uri]));
}

export async function timed(action: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await action();
  return (performance.now() - start) / 1000;
}
