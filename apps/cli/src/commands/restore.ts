// tidemark restore
import { resultOf, type Schema } from '@tidemark/client';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { requireGoodResult } from '../good-result.ts';
import { record } from '../output.ts';
import { watchRun } from '../run-watch.ts';
import { parseSize } from '../sizes.ts';
import { at, Context, type Surroundings, withWait } from './context.ts';
import { formatOption, volumeColumns } from './volume.ts';

type Body = Schema<'CreateRestore'>;
type Answer = Schema<'RestoreRun'>;

interface Options {
  backup?: string;
  volume?: string;
  checkpoint?: string;
  storageNode?: string;
  toVolume?: string;
  toFile?: string;
  instant?: string;
  inPlace?: string;
  evenIfConnected?: boolean;
  format: Schema<'Volume'>['format'];
  speed?: number;
  onDamage: Body['onDamage'];
  wait: boolean;
}

/** Source and target each in one of several forms: what the options cannot say alone is checked here. */
function bodyOf(options: Options): Body {
  const { backup, volume, checkpoint, speed: speedBytesPerSecond, onDamage } = options;
  if (backup === undefined && (volume === undefined || checkpoint === undefined)) {
    throw new InvalidArgumentError(
      'Say what to restore: --backup ID, or --volume REF with --checkpoint REF.',
    );
  }
  return { backup, volume, checkpoint, target: targetOf(options), speedBytesPerSecond, onDamage };
}

function targetOf({ storageNode, toVolume, toFile, instant, inPlace, ...options }: Options): Body['target'] {
  if ([toVolume, toFile, instant, inPlace].every(place => place === undefined)) {
    throw new InvalidArgumentError(
      'Say where to: --to-volume NAME, --to-file NAME, --instant NAME or --in-place VOLUME.',
    );
  }
  const { evenIfConnected, format } = options;
  if (evenIfConnected && inPlace === undefined) {
    throw new InvalidArgumentError('--even-if-connected belongs to --in-place VOLUME. Leave it out.');
  }
  if (inPlace !== undefined) return { inPlace: { volume: inPlace, evenIfConnected } };
  if (storageNode === undefined) throw new InvalidArgumentError('Say on which host: --storage-node REF.');
  if (instant !== undefined) return { instant: { name: instant, storageNode } };
  if (toFile !== undefined) return { file: { storageNode, name: toFile } };
  return { volume: { name: toVolume!, storageNode, format } };
}

export function restoreCommands(program: Command, around: Surroundings): void {
  const places = ['toVolume', 'toFile', 'instant', 'inPlace'];
  const place = (flags: string, text: string, name: string) =>
    new Option(flags, text).conflicts(places.filter(other => other !== name));
  withWait(
    program
      .command('restore')
      .description('bring a backup back; exits with 3 where what came back has holes'),
  )
    .addOption(new Option('--backup <id>', 'backup to restore').conflicts(['volume', 'checkpoint']))
    .option('--volume <ref>', 'volume whose checkpoint to restore')
    .option('--checkpoint <ref>', 'checkpoint to restore; its newest backup is used')
    .addOption(
      new Option('--storage-node <ref>', 'storage node that will hold the result').conflicts('inPlace'),
    )
    .addOption(place('--to-volume <name>', 'name of the new volume', 'toVolume'))
    .addOption(place('--to-file <name>', 'name of the new file in its folder for restores', 'toFile'))
    .addOption(
      place('--instant <name>', 'name of the new volume, ready before all of it is there', 'instant'),
    )
    .addOption(place('--in-place <volume>', 'volume to overwrite where it differs', 'inPlace'))
    .option('--even-if-connected', 'with --in-place: also under a connected guest')
    .addOption(formatOption().conflicts(['toFile', 'instant', 'inPlace']))
    .option('--speed <size>', 'most bytes per second, like 50MiB', parseSize)
    .addOption(
      new Option('--on-damage <what>', 'what to do about what cannot be read')
        .choices(['skip', 'fail'])
        .default('skip'),
    )
    .action(async (options: Options, command) => {
      const context = new Context(command, around);
      const started = await context.client.post('/v1/restores', { body: bodyOf(options) });
      if (options.wait && options.instant !== undefined) return showInstant(context, started);
      await context.finish(started, {
        wait: options.wait,
        refresh: () => refresh(context, started),
        forPeople: answer =>
          answer.volume
            ? record(answer.volume, volumeColumns)
            : `restored to ${resultOf(answer.run, 'restore')?.filePath}`,
      });
    });
}

async function refresh({ client }: Context, { volume }: Answer): Promise<Pick<Answer, 'volume'>> {
  return { volume: volume && (await client.get('/v1/volumes/{volume}', at({ volume: volume.id }))) };
}

/** As soon as the volume can be used; the run goes on. */
async function showInstant(context: Context, started: Answer): Promise<void> {
  const { client, output } = context;
  const run = await watchRun(client, output, started.run, ({ checkpointAt }) => checkpointAt !== null);
  const answer = { ...started, ...(await refresh(context, started)), run };
  const next = `The rest is pulled behind; follow it with: tidemark run watch ${run.id}`;
  output.print(answer, () => (answer.volume ? `${record(answer.volume, volumeColumns)}\n${next}` : next));
  requireGoodResult(run);
}
