// `npm run bench -- --operations`: what an operator waits for, from the REST request to the stored result, with the
// whole system on this machine: increments of nothing and of shares of a disk, the first read of an instant restore
// over chains of several lengths, the pruning of a large increment.

import { setTimeout as delay } from 'node:timers/promises';
import { NbdClient } from '@tidemark/nbd';
import type { RestClient, Run } from '../demo/rest-client.ts';
import { timed } from './load.ts';
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
}

export const OPERATIONS_FULL: OperationsScale = {
  unchangedBytes: [GiB, 64 * GiB, TiB],
  diskBytes: 10 * GiB,
  shares: [0, 0.0025, 0.005, 0.01, 0.02, 0.04],
  rounds: 3,
  chains: [1, 10, 30],
  prunedBytes: GiB,
};

export const OPERATIONS_QUICK: OperationsScale = {
  unchangedBytes: [GiB],
  diskBytes: 256 * MiB,
  shares: [0, 0.01, 0.04],
  rounds: 1,
  chains: [1, 3],
  prunedBytes: 64 * MiB,
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
    for (const measure of [unchanged, shares, instant, prune]) options.tell(await measure(context));
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
    // The increment is merged into what it stands on, which goes.
    const keep = { last: 1 };
    const body = { volume: volume.name, repository: REPOSITORY, keep, dryRun: false };
    seconds.push(await timed(() => service.rest.post('/v1/prune', body, 'done')));
  }
  const rate = scale.prunedBytes / MiB / summarize(seconds).median;
  const size = `${scale.prunedBytes / GiB} GiB`;
  return `prune of an increment of ${size}, seconds\n  ${figures(seconds)}, ${Math.round(rate)} MiB/s`;
}

function figures(seconds: readonly number[]): string {
  const { median, lowest, highest } = summarize(seconds);
  return `${median.toFixed(2)} (${lowest.toFixed(2)}–${highest.toFixed(2)})`;
}

function assertSent(run: Run, bytes: number): void {
  if (run.progress.sentBytes === bytes) return;
  throw new Error(`run ${run.id} sent ${run.progress.sentBytes} bytes, not ${bytes}`);
}
