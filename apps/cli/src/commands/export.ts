// tidemark export
import { resultOf, type Schema } from '@tidemark/client';
import type { Command } from 'commander';
import { type Column, moment, size } from '../output.ts';
import { watchRun } from '../run-watch.ts';
import { parseSize } from '../sizes.ts';
import { Context, parseCount, type Surroundings } from './context.ts';

type Run = Schema<'Run'>;

const details: readonly Column<Run>[] = [
  ['RUN', run => run.id],
  ['URI', run => resultOf(run, 'export')?.uri ?? ''],
  ['POINT IN TIME', run => moment(run.checkpointAt)],
  ['SIZE', run => size(resultOf(run, 'export')?.sizeBytes ?? 0)],
];

/** One a line, oldest first: each names its checkpoint by id, as `checkpoint list` does. */
const contextLines = (run: Run): string =>
  (resultOf(run, 'export')?.contexts ?? []).map(name => `\nCONTEXT        ${name}`).join('');

const SECOND_MS = 1000;

export function exportCommands(program: Command, around: Surroundings): void {
  const group = program
    .command('export')
    .description('frozen moments of volumes, for others to pull over NBD');

  group
    .command('create')
    .description('freeze a moment and export it, until: tidemark run finish RUN')
    .requiredOption('--volume <ref>', 'volume to export')
    .option('--checkpoint <name>', 'name of a new checkpoint, taken in the same instant')
    .option('--description <text>', 'of the checkpoint')
    .option('--base <checkpoint>', 'only what changed since can be read (default: all)')
    .option('--expires <seconds>', 'how long it may stay open (default: a day)', parseCount)
    .option('--scratch-limit <size>', 'most space for what guests overwrite meanwhile', parseSize)
    .option('--drop-oldest', 'drop the oldest checkpoint when the volume has as many as it may have')
    .action(async (options, command) => {
      const { client, output } = new Context(command, around);
      const { volume, checkpoint, description, base, expires, scratchLimit, dropOldest } = options;
      const body: Schema<'CreateExport'> = {
        ...{ volume, checkpoint, description, base, dropOldest, scratchLimitBytes: scratchLimit },
        expiresInMs: expires === undefined ? undefined : expires * SECOND_MS,
      };
      const started = await client.post('/v1/exports', { body });
      // Not by one long call: a freeze may take longer than any call waits, and the run must not go on unseen.
      const isOpen = ({ checkpointAt }: Run) => checkpointAt !== null;
      const run = await watchRun(client, output, started.run, isOpen);
      output.show(run, details, contextLines(run));
    });
}
