// `npm run bench`: what the storage node does beside QEMU's and nbdkit's servers, measured in one run, in
// turn, on one file. `npm run bench -- --operations`: what an operator waits for instead (operations.ts);
// `--orchestration`: what a backup takes beside the engine's work (orchestration.ts), with `--against CHECKOUT` in turn
// with another version and with `--queue-url redis://…` through another queue;
// `--write-intents`: what it costs guests that dirty bits survive crashes. With `--quick` each only shows that it
// works; figures need the whole run on a machine that does nothing else. `--rounds 5` measures more often. How to
// read them stands in docs/PERFORMANCE.md.

import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { findTool } from '../demo/tool.ts';
import { optionsOf, wholeNumber } from '../process/options.ts';
import { StorageNodeProcess } from '../process/storage-node-process.ts';
import { type BackupWay, measureBackup, ourBackup, qemuBackup, qemuBackupOverNbd } from './backup.ts';
import { measureDaemons } from './daemons.ts';
import { type Disk, makeDisk, makeSource } from './disk.ts';
import { measureImages } from './images.ts';
import { type Latency, measureLatency } from './latency.ts';
import { measureOperations, OPERATIONS_FULL, OPERATIONS_QUICK } from './operations.ts';
import { measureOrchestration } from './orchestration.ts';
import {
  backupTable,
  daemonTable,
  filterTable,
  imageTables,
  latencyTable,
  throughputTable,
} from './report.ts';
import { FULL, QUICK, type Scale } from './scale.ts';
import { missingPeers, startServers } from './servers.ts';
import { measureThroughput, proveServers } from './throughput.ts';
import { INTENT_SIDES, measureWriteIntents } from './write-intents.ts';

/** Without these nothing can be measured. */
const NEEDED = { fio: 'fio', nbdcopy: 'libnbd-bin', 'qemu-img': 'qemu-utils' };
/** Above this something else is running. */
const QUIET_LOAD = 1;

type Cleanup = (action: () => Promise<unknown>) => void;

interface Bench {
  readonly alpha: StorageNodeProcess;
  readonly beta: StorageNodeProcess;
  readonly disk: Disk;
  readonly source: string;
  readonly scale: Scale;
  readonly folder: string;
  readonly cleanup: Cleanup;
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

async function prepare(scale: Scale, cleanup: Cleanup): Promise<Bench> {
  const folder = await mkdtemp(join(tmpdir(), 'tidemark-bench-'));
  cleanup(() => rm(folder, { recursive: true, force: true }));
  progress(`writing ${scale.dataBytes / 1024 ** 2} MiB`);
  const source = join(folder, 'source.raw');
  await makeSource(source, scale.dataBytes);
  const start = async (name: string): Promise<StorageNodeProcess> => {
    const storageNode = await StorageNodeProcess.start({ name, stateDir: join(folder, name) });
    cleanup(() => storageNode.stop());
    return storageNode;
  };
  const [alpha, beta] = [await start('alpha'), await start('beta')];
  const disk = await makeDisk(alpha, { source, dataBytes: scale.dataBytes });
  return { alpha, beta, disk, source, scale, folder, cleanup };
}

async function benchServers({ disk, source, scale, cleanup }: Bench): Promise<string> {
  const servers = await startServers(disk, cleanup);
  progress('proving that every server stores what it is given');
  await proveServers(servers, disk, { source, rangeBytes: Math.min(64 * 1024 ** 2, disk.dataBytes) });
  const rows = await measureThroughput(servers, disk, { source, scale, onProgress: progress });
  for (const server of servers) await server.stop();
  return throughputTable(
    servers.map(({ name }) => name),
    rows,
  );
}

async function benchBackups({ alpha, beta, disk, scale, folder }: Bench): Promise<[string, string]> {
  const repositoryId = randomUUID();
  const step = { runId: randomUUID(), step: 'bench', leaseEpoch: 1 };
  await beta.clients.repositories.createRepository({ step, repositoryId, name: 'bench', limitBytes: 0 });
  const ways: BackupWay[] = [ourBackup({ alpha, beta, repositoryId, disk })];
  if (findTool('qemu-storage-daemon') !== null) {
    ways.push(qemuBackup(disk, folder), qemuBackupOverNbd(disk, folder));
  }
  const seconds = ways.map((): number[] => []);
  for (let round = 0; round < scale.backupRounds; round++) {
    for (let turn = 0; turn < ways.length; turn++) {
      const index = (turn + round) % ways.length;
      progress(`${ways[index]!.name}: backup ${round + 1} of ${scale.backupRounds}`);
      seconds[index]!.push(await measureBackup(ways[index]!, disk));
    }
  }
  const latencies: Latency[] = [];
  // QEMU's in the way that ours takes: the last one.
  for (const way of new Set([ways[0]!, ways.at(-1)!])) {
    progress(`${way.name}: latency`);
    latencies.push(await measureLatency(way, disk, scale));
  }
  const times = ways.map(({ name }, index) => ({ name, seconds: seconds[index]! }));
  return [backupTable(times), latencyTable(latencies)];
}

async function benchDaemons({ scale, folder }: Bench): Promise<string[]> {
  if (findTool('qemu-storage-daemon') === null) return [];
  const figures = await measureDaemons(scale, { folder, onProgress: progress });
  const images = await measureImages(scale, { folder, onProgress: progress });
  return [daemonTable(figures), filterTable(figures), ...imageTables(images)];
}

/** On a storage node of its own: nothing but it and its disk is measured. */
async function benchWriteIntents(scale: Scale, cleanup: Cleanup): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'tidemark-bench-intents-'));
  cleanup(() => rm(folder, { recursive: true, force: true }));
  const storageNode = await StorageNodeProcess.start({ name: 'gamma', stateDir: join(folder, 'gamma') });
  cleanup(() => storageNode.stop());
  const rows = await measureWriteIntents(storageNode, { scale, onProgress: progress });
  return throughputTable(INTENT_SIDES, rows);
}

async function benchAll(scale: Scale, cleanup: Cleanup): Promise<string[]> {
  const everything = await prepare(scale, cleanup);
  return [
    await benchServers(everything),
    ...(await benchBackups(everything)),
    ...(await benchDaemons(everything)),
    await benchWriteIntents(scale, cleanup),
  ];
}

async function bench(measure: (cleanup: Cleanup) => Promise<string[]>): Promise<void> {
  const actions: (() => Promise<unknown>)[] = [];
  const undo = async (): Promise<void> => {
    for (const action of actions.splice(0).reverse()) await action();
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => void undo().finally(() => process.exit(130)));
  }
  try {
    const tables = await measure(action => actions.push(action));
    progress('');
    console.log(`Medians, lowest and highest in brackets; ×: how many times as fast tidemark is.\n`);
    console.log(tables.join('\n\n'));
  } finally {
    await undo();
  }
}

async function benchOperations(isQuick: boolean, rounds: number | undefined): Promise<void> {
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
  const scale = isQuick ? OPERATIONS_QUICK : OPERATIONS_FULL;
  const tell = (figures: string): void => {
    progress('');
    console.log(`${figures}\n`);
  };
  const options = { signal: stop.signal, say: progress, tell };
  await measureOperations({ ...scale, rounds: rounds ?? scale.rounds }, options);
}

async function benchOrchestration(
  rounds: number,
  choice: { against: string | undefined; queueUrl: string | undefined },
): Promise<void> {
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
  const figures = await measureOrchestration(rounds, { ...choice, signal: stop.signal, say: progress });
  progress('');
  console.log(figures);
}

const OPTIONS = {
  options: {
    quick: { type: 'boolean', default: false },
    operations: { type: 'boolean', default: false },
    orchestration: { type: 'boolean', default: false },
    against: { type: 'string' },
    'queue-url': { type: 'string' },
    'write-intents': { type: 'boolean', default: false },
    rounds: { type: 'string' },
  },
} as const;
const { rounds, ...values } = optionsOf(() => {
  const { values } = parseArgs(OPTIONS);
  const { rounds } = values;
  return {
    ...values,
    rounds: rounds === undefined ? undefined : wholeNumber('rounds', rounds, { most: 99 }),
  };
});
const chosen = values.quick ? QUICK : FULL;
const scale = { ...chosen, rounds: rounds ?? chosen.rounds };
const missing = Object.entries(NEEDED).filter(([program]) => findTool(program) === null);
if (missing.length > 0) {
  const packages = missing.map(([, name]) => name).join(' ');
  console.error(
    `The benchmark needs programs that are not installed. On Debian: apt-get install ${packages}`,
  );
  process.exit(1);
}
const load = loadavg()[0]!;
if (load > QUIET_LOAD) {
  console.log(`The machine is busy (load ${load.toFixed(1)}): ratios are worth more than figures.`);
}
if (values.operations) {
  await benchOperations(values.quick, rounds);
} else if (values.orchestration) {
  const { against, 'queue-url': queueUrl } = values;
  await benchOrchestration(rounds ?? (values.quick ? 5 : 60), {
    against: against === undefined ? undefined : resolve(against),
    queueUrl,
  });
} else if (values['write-intents']) {
  await bench(async cleanup => [await benchWriteIntents(scale, cleanup)]);
} else {
  const absent = missingPeers();
  if (absent.length > 0) console.log(`Not installed, so not compared: ${absent.join(', ')}.`);
  await bench(cleanup => benchAll(scale, cleanup));
}
