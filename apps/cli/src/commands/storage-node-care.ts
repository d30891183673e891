// tidemark storage-node cordon, uncordon, drain, recover
import { resultOf, type Schema } from '@tidemark/client';
import type { Command } from 'commander';
import { type Column, moment, table } from '../output.ts';
import { parseSize } from '../sizes.ts';
import { at, Context, type Surroundings, withWait } from './context.ts';

type Run = Schema<'Run'>;

const PATH = '/v1/storage-nodes/{storageNode}';
const HOUR_MS = 3_600_000;

type Recovered = Schema<'RecoverResult'>;

function drainReport({ moved, stays, repositories }: Schema<'DrainResult'>): string {
  return [
    ...moved.map(({ name, to }) => `moved: ${name} to ${to}`),
    ...stays.map(({ name, reason }) => `stays: ${name}: ${reason}`),
    ...repositories.map(name => `stays: repository ${name}`),
    `${moved.length} volumes moved, ${stays.length} stay, ${repositories.length} repositories stay`,
  ].join('\n');
}

const columns: readonly Column<Recovered['volumes'][number]>[] = [
  ['VOLUME', volume => volume.name],
  ['STATE', volume => volume.state],
  ['STORAGE NODE', volume => volume.storageNode],
  ['FROM', volume => volume.repository],
  ['AS OF', volume => moment(volume.pointInTime)],
  ['AGE', volume => (volume.ageMs === null ? null : `${(volume.ageMs / HOUR_MS).toFixed(1)} h`)],
  ['LOST', volume => volume.lost],
];

function recoverReport({ volumes, repositories }: Recovered): string {
  const lost = repositories.map(name => `repository ${name} is lost, and its backups are missing`);
  return [volumes.length > 0 ? table(volumes, columns) : 'it had no volumes', ...lost].join('\n');
}

export function storageNodeCareCommands(group: Command, around: Surroundings): void {
  for (const verb of ['cordon', 'uncordon'] as const) {
    group
      .command(`${verb} <storage-node>`)
      .description(verb === 'cordon' ? 'let nothing new go there' : 'let what is new go there again')
      .action(async (ref, _options, command) => {
        const { client, output } = new Context(command, around);
        const node = await client.post(`${PATH}/${verb}`, at({ storageNode: ref }));
        output.print(node, () => `${verb}ed ${node.name}`);
      });
  }

  withWait(group.command('drain <storage-node>').description('move all of its volumes to others'))
    .option('--to <selector>', 'only to storage nodes with such labels')
    .option('--speed <size>', 'most bytes a second of each move', parseSize)
    .action(async (ref, options, command) => {
      const body = { selector: options.to, speedBytesPerSecond: options.speed };
      const context = new Context(command, around);
      const started = await context.client.post(`${PATH}/drain`, { ...at({ storageNode: ref }), body });
      await finish(context, ref, { started, wait: options.wait }, run =>
        drainReport(resultOf(run, 'drain-storage-node')!),
      );
    });

  withWait(
    group
      .command('recover <storage-node>')
      .description('give up one that is lost for good, and restore its volumes elsewhere'),
  )
    .option('--to <selector>', 'only to storage nodes with such labels')
    .option('--instant', 'have the volumes at once, and pull their backups behind')
    .action(async (ref, options, command) => {
      const body = { selector: options.to, instant: options.instant };
      const context = new Context(command, around);
      const started = await context.client.post(`${PATH}/recover`, { ...at({ storageNode: ref }), body });
      await finish(context, ref, { started, wait: options.wait }, run =>
        recoverReport(resultOf(run, 'recover-storage-node')!),
      );
    });
}

async function finish(
  context: Context,
  ref: string,
  { started, wait }: { started: Schema<'StorageNodeRun'>; wait: boolean },
  report: (run: Run) => string,
): Promise<void> {
  await context.finish(started, {
    wait,
    refresh: async () => ({ storageNode: await context.client.get(PATH, at({ storageNode: ref })) }),
    forPeople: ({ run }) => report(run),
  });
}
