// `npm run bench -- --operations`: what an operator waits for, from the REST request to the stored result, with the
// whole system on this machine: increments of nothing and of shares of a disk, the first read of an instant restore
// over chains of several lengths, the pruning of a large increment.

import { setTimeout as delay } from 'node:timers/promises';
import { NbdClient } from '@tidemark/nbd';
import type { RestClient, Run } from '../demo/rest-client.ts';
import { type RequestResult, requests, timed } from './load.ts';
import { run } from './program.ts';
import { summarize } from './statistics.ts';
import { fill, scatter, type Volume, WholeService } from './whole-service.ts';

const MiB = 1024 ** 2;
const GiB = 1024 * MiB;
const TiB = 1024 * GiB;

export interface OperationsScale {
  readonly unchangedBytes: readonly number[];
  readonly diskBytes: number;
  /** Parts of the disk that change between two backups. */
  readonly shares: readonly number[];
  readonly rounds: number;
  readonly chains: readonly number[];
  readonly prunedBytes: number;
  /** One measurement of a guest's latency. */
  readonly latencySeconds: number;
}

export const OPERATIONS_FULL: OperationsScale = {
  unchangedBytes: [GiB, 64 * GiB, TiB],
  diskBytes: 10 * GiB,
  shares: [0, 0.0025, 0.005, 0.01, 0.02, 0.04],
  rounds: 3,
  chains: [1, 10, 30],
  prunedBytes: GiB,
  latencySeconds: 1,
};

export const OPERATIONS_QUICK: OperationsScale = {
  unchangedBytes: [GiB],
  diskBytes: 256 * MiB,
  shares: [0, 0.01, 0.04],
  rounds: 1,
  chains: [1, 3],
  prunedBytes: 64 * MiB,
  latencySeconds: 0.2,
};

const REPOSITORY = 'bench';
const POLL_MS = 20;

interface Context {
  readonly service: WholeService;
  readonly scale: OperationsScale;
  readonly say: (text: string) => void;
}

/** `tell` is given the figures, in lines of text, part by part. */
export async function measureOperations(
  scale: OperationsScale,
  options: { signal: AbortSignal; say: (text: string) => void; tell: (figures: string) => void },
): Promise<void> {
  const service = await WholeService.start(options.signal);
  try {
    await service.repository(REPOSITORY);
    const context = { service, scale, say: options.say };
    for (const measure of [unchanged, shares, instant, prune, besidePrune])
      options.tell(await measure(context));
  } finally {
    await service.stop();
  }
}

async function unchanged({ service, scale, say }: Context): Promise<string> {
  const lines = ['increment of a volume with no change, seconds'];
  for (const sizeBytes of scale.unchangedBytes) {
    say(`nothing changed: ${sizeBytes / GiB} GiB`);
    const volume = await service.volume(`unchanged-${sizeBytes}`, sizeBytes);
    await fill(volume, 0, 16 * MiB);
    await service.backUp(volume, REPOSITORY, 'full');
    const seconds: number[] = [];
    for (let round = 0; round < scale.rounds + 2; round++) {
      const backup = await service.backUp(volume, REPOSITORY, 'incremental');
      assertSent(backup.run, 0);
      seconds.push(backup.seconds);
    }
    lines.push(`  ${sizeBytes / GiB} GiB: ${figures(seconds)}`);
  }
  return lines.join('\n');
}

async function shares({ service, scale, say }: Context): Promise<string> {
  const volume = await service.volume('shares', scale.diskBytes);
  say(`writing ${scale.diskBytes / GiB} GiB`);
  await fill(volume, 0, scale.diskBytes);
  say('full backup');
  const full = await service.backUp(volume, REPOSITORY, 'full');
  const lines = [
    `full backup of ${scale.diskBytes / GiB} GiB, all of it data: ${full.seconds.toFixed(1)} s`,
    'increment by share of the disk that changed (scattered clusters of 64 KiB), seconds',
  ];
  const medians: number[] = [];
  for (const share of scale.shares) {
    const seconds: number[] = [];
    for (let round = 0; round < scale.rounds; round++) {
      say(`${share * 100} % changed, round ${round + 1}`);
      await scatter(volume, share);
      const backup = await service.backUp(volume, REPOSITORY, 'incremental');
      seconds.push(backup.seconds);
    }
    medians.push(summarize(seconds).median);
    lines.push(`  ${(share * 100).toFixed(2)} %: ${figures(seconds)}`);
  }
  return [...lines, plot(scale.shares, medians)].join('\n');
}

/** A bar of text for each share: as long as it took. */
function plot(shares: readonly number[], seconds: readonly number[]): string {
  const WIDTH = 60;
  const most = Math.max(...seconds);
  return shares
    .map((share, index) => {
      const bar = '█'.repeat(Math.max(1, Math.round((seconds[index]! / most) * WIDTH)));
      return `  ${(share * 100).toFixed(2).padStart(5)} % ${bar} ${seconds[index]!.toFixed(2)} s`;
    })
    .join('\n');
}

async function instant({ service, scale, say }: Context): Promise<string> {
  const volume = await service.volume('instant', 2 * GiB);
  await fill(volume, 0, 256 * MiB);
  const lines = ['instant restore: from the request to the first answered read of its guest, seconds'];
  let length = 0;
  let checkpoint = '';
  for (const wanted of scale.chains) {
    for (; length < wanted; length++) {
      say(`chain of ${length + 1}`);
      await fill(volume, length * 4 * MiB, 4 * MiB);
      const kind = length === 0 ? 'full' : 'incremental';
      ({ checkpoint } = await service.backUp(volume, REPOSITORY, kind));
    }
    const seconds: number[] = [];
    for (let round = 0; round < scale.rounds; round++) {
      seconds.push(await instantRead(service, { volume, checkpoint, name: `instant-${wanted}-${round}` }));
    }
    lines.push(`  chain of ${wanted}: ${figures(seconds)}`);
  }
  return lines.join('\n');
}

async function instantRead(
  { rest }: WholeService,
  { volume, checkpoint, name }: { volume: Volume; checkpoint: string; name: string },
): Promise<number> {
  const target = { instant: { name, storageNode: 'alpha' } };
  const body = { volume: volume.name, checkpoint, target };
  let runId = '';
  const seconds = await timed(async () => {
    const started = await rest.post<{ run: Run }>('/v1/restores', body, 'accepted');
    runId = started.run.id;
    const guest = await NbdClient.connect({ uri: await exportOf(rest, name) });
    const block = Buffer.alloc(4096);
    await guest.read(4 * MiB, block);
    await guest.disconnect();
    if (block.readDoubleBE(0) !== 4 * MiB) throw new Error(`${name} does not hold what was backed up`);
  });
  await rest.follow(runId, () => {});
  return seconds;
}

async function exportOf(rest: RestClient, name: string): Promise<string> {
  for (;;) {
    const volume = await rest.get<{ exportUri: string | null; state: string }>(`/v1/volumes/${name}`);
    if (volume.state === 'ready' && volume.exportUri !== null) return volume.exportUri;
    await delay(POLL_MS);
  }
}

async function prune({ service, scale, say }: Context): Promise<string> {
  const volume = await service.volume('pruned', 2 * scale.prunedBytes);
  await fill(volume, 0, scale.prunedBytes);
  await service.backUp(volume, REPOSITORY, 'full');
  const seconds: number[] = [];
  for (let round = 0; round < scale.rounds; round++) {
    say(`prune, round ${round + 1}`);
    await fill(volume, scale.prunedBytes, scale.prunedBytes);
    await service.backUp(volume, REPOSITORY, 'incremental');
    seconds.push(await timed(() => pruneToOne(service, volume)));
  }
  const rate = scale.prunedBytes / MiB / summarize(seconds).median;
  const size = `${scale.prunedBytes / GiB} GiB`;
  return `prune of an increment of ${size}, seconds\n  ${figures(seconds)}, ${Math.round(rate)} MiB/s`;
}

/** The increment is merged into what it stands on, which goes. */
function pruneToOne({ rest }: WholeService, volume: Volume): Promise<unknown> {
  const body = { volume: volume.name, repository: REPOSITORY, keep: { last: 1 }, dryRun: false };
  return rest.post('/v1/prune', body, 'done');
}

/** A guest on the storage node that merges, and a backup into the repository that is pruned: alone, and beside it. */
async function besidePrune({ service, scale, say }: Context): Promise<string> {
  const pruned = await service.volume('pruned-beside', 2 * scale.prunedBytes);
  await fill(pruned, 0, scale.prunedBytes);
  await service.backUp(pruned, REPOSITORY, 'full');
  const other = await service.volume('backed-up-beside', scale.prunedBytes);
  await fill(other, 0, scale.prunedBytes / 4);
  const guest = await service.volume('guest-beside', scale.prunedBytes, 'beta');
  await fill(guest, 0, scale.prunedBytes / 4);
  const write = () => {
    const load = {
      blockBytes: 4096,
      depth: 1,
      seconds: scale.latencySeconds,
      rangeBytes: scale.prunedBytes / 4,
    };
    return requests({ uri: guest.uri, operation: 'randwrite', ...load });
  };
  const backUp = async () => (await service.backUp(other, REPOSITORY, 'full')).seconds;
  const beside = async <T>(measure: () => Promise<T>): Promise<T> => {
    await fill(pruned, scale.prunedBytes, scale.prunedBytes);
    await service.backUp(pruned, REPOSITORY, 'incremental');
    await run('sync', []);
    const [figure] = await Promise.all([measure(), pruneToOne(service, pruned)]);
    return figure;
  };
  const writes = { alone: [] as RequestResult[], beside: [] as RequestResult[] };
  const backups = { alone: [] as number[], beside: [] as number[] };
  for (let round = 0; round < scale.rounds; round++) {
    say(`beside a prune, round ${round + 1}`);
    await run('sync', []);
    writes.alone.push(await write());
    writes.beside.push(await beside(write));
    await run('sync', []);
    backups.alone.push(await backUp());
    backups.beside.push(await beside(backUp));
  }
  return [
    'one 4 KiB write of a guest at a time on the storage node that prunes, microseconds at p50 and p99',
    `  alone: ${latencies(writes.alone)}`,
    `  beside the prune: ${latencies(writes.beside)}`,
    `full backup of ${scale.prunedBytes / 4 / MiB} MiB into the repository that is pruned, seconds`,
    `  alone: ${figures(backups.alone)}`,
    `  beside the prune: ${figures(backups.beside)}`,
  ].join('\n');
}

function latencies(results: readonly RequestResult[]): string {
  const median = (pick: (result: RequestResult) => number) => Math.round(summarize(results.map(pick)).median);
  return `${median(({ latency }) => latency.p50)} and ${median(({ latency }) => latency.p99)}`;
}

function figures(seconds: readonly number[]): string {
  const { median, lowest, highest } = summarize(seconds);
  return `${median.toFixed(2)} (${lowest.toFixed(2)}–${highest.toFixed(2)})`;
}

function assertSent(run: Run, bytes: number): void {
  if (run.progress.sentBytes === bytes) return;
  throw new Error(`run ${run.id} sent ${run.progress.sentBytes} bytes, not ${bytes}`);
}
