// Requests and copies on every server in turn, round after round, so that whatever else the machine does
// hits all of them alike.

import type { Disk } from './disk.ts';
import { copyIn, copyOut, type RequestLoad, requests, verifyWrites } from './load.ts';
import { run } from './program.ts';
import type { Scale } from './scale.ts';
import type { Server } from './servers.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

export interface Row {
  readonly title: string;
  readonly unit: string;
  /** One list of measurements a server, in the servers' order. More is better. */
  readonly values: number[][];
}

interface Workload {
  readonly title: string;
  readonly unit: string;
  measure(server: Server): Promise<number>;
}

function workloads(disk: Disk, source: string, scale: Scale): Workload[] {
  const load = (title: string, operation: RequestLoad['operation'], blockBytes: number): Workload => {
    const small = blockBytes < 64 * KiB;
    return {
      title,
      unit: small ? 'requests/s' : 'MiB/s',
      measure: async ({ uri }) => {
        const depth = 16;
        const range = { seconds: scale.seconds, rangeBytes: disk.dataBytes };
        const { requestsPerSecond } = await requests({ uri, operation, blockBytes, depth, ...range });
        return small ? requestsPerSecond : (requestsPerSecond * blockBytes) / MiB;
      },
    };
  };
  const dataMiB = disk.dataBytes / MiB;
  return [
    load('4 KiB random read, 16 deep', 'randread', 4 * KiB),
    load('4 KiB random write, 16 deep', 'randwrite', 4 * KiB),
    load('256 KiB random read, 16 deep', 'randread', 256 * KiB),
    load('256 KiB random write, 16 deep', 'randwrite', 256 * KiB),
    {
      title: 'nbdcopy from the server, 4 connections',
      unit: 'MiB/s',
      measure: async ({ uri }) => dataMiB / (await copyOut(uri)),
    },
    {
      title: 'nbdcopy to the server, 4 connections',
      unit: 'MiB/s',
      measure: async ({ uri }) => dataMiB / (await copyIn(source, uri)),
    },
  ];
}

/** Rejects when a server does not give back what was written, before anything is measured. */
export async function proveServers(
  servers: readonly Server[],
  disk: Disk,
  options: { source: string; rangeBytes: number },
): Promise<void> {
  for (const { uri } of servers) {
    await verifyWrites(uri, options.rangeBytes);
    await copyIn(options.source, uri);
    await run('qemu-img', ['compare', '-q', '-f', 'raw', '-F', 'raw', uri, options.source]);
    await run('cmp', [disk.path, options.source]);
  }
}

export async function measureThroughput(
  servers: readonly Server[],
  disk: Disk,
  options: { source: string; scale: Scale; onProgress(text: string): void },
): Promise<Row[]> {
  const { source, scale, onProgress } = options;
  const rows: Row[] = [];
  for (const { title, unit, measure } of workloads(disk, source, scale)) {
    const values = servers.map((): number[] => []);
    for (let round = 0; round < scale.rounds; round++) {
      onProgress(`${title}: round ${round + 1} of ${scale.rounds}`);
      for (let turn = 0; turn < servers.length; turn++) {
        // Nobody always comes first.
        const index = (turn + round) % servers.length;
        values[index]!.push(await measure(servers[index]!));
      }
    }
    rows.push({ title, unit, values });
  }
  return rows;
}
