// tidemark run
import { hasEnded, type Query, type Schema } from '@tidemark/client';
import { type Command, Option } from 'commander';
import { requireGoodResult } from '../good-result.ts';
import { type Column, moment, size, table } from '../output.ts';
import { watchRun } from '../run-watch.ts';
import { parseSize } from '../sizes.ts';
import { at, Context, type Surroundings, withPage } from './context.ts';

type Run = Schema<'Run'>;

const PATH = '/v1/runs';
const ONE = `${PATH}/{run}` as const;
const LIST_DEFAULT = 50;

/** With what was asked of it, and what it still has to do. */
function stateOf(run: Run): string {
  if (hasEnded(run)) return run.cleanupPending ? `${run.state}, cleaning up` : run.state;
  if (run.cancelRequested) return 'cancelling';
  if (run.undoing) return 'undoing';
  if (run.finishRequested) return 'finishing';
  return run.paused && run.state === 'running' ? 'paused' : run.state;
}

const columns: readonly Column<Run>[] = [
  ['ID', run => run.id],
  ['KIND', run => run.kind],
  ['STATE', stateOf],
  ['STEP', run => run.steps.at(-1)?.name ?? null],
  ['BYTES', run => (run.progress.totalBytes > 0 ? size(run.progress.currentBytes) : null)],
  ['CREATED', run => moment(run.createdAt)],
  ['FINISHED', run => moment(run.finishedAt)],
];

const details: readonly Column<Run>[] = [
  ...columns,
  ['POINT IN TIME', run => moment(run.checkpointAt)],
  ['SENT', run => size(run.progress.sentBytes)],
  ['REASON', run => run.reason],
  ['ATTEMPT', run => run.attempt],
  ['BEGAN ANEW', run => (run.restarts > 0 ? run.restarts : null)],
  ['PAUSED', run => (run.paused ? 'yes' : null)],
  ['SPEED', run => (run.speedBytesPerSecond ? `${size(run.speedBytesPerSecond)}/s` : null)],
  ['ENDING', run => run.ending],
  ['ERROR', run => run.error && `${run.error.code}: ${run.error.message}`],
  ['RESULT', run => run.result && JSON.stringify(run.result)],
];

const stepColumns: readonly Column<Schema<'RunStep'>>[] = [
  ['STEP', step => step.name],
  ['STATE', step => step.state],
  ['STARTED', step => moment(step.startedAt)],
  ['FINISHED', step => moment(step.finishedAt)],
  ['ERROR', step => step.error && `${step.error.code}: ${step.error.message}`],
];

const RUN_STATES = ['queued', 'running', 'succeeded', 'failed', 'cancelled'];

export function runCommands(program: Command, around: Surroundings): void {
  const group = program.command('run').description('executions of requests');

  withPage(group.command('list').description('list runs, newest first'), LIST_DEFAULT)
    .addOption(new Option('--state <state>', 'only runs in this state').choices(RUN_STATES))
    .option('--kind <kind>', 'only runs of this kind, like backup or create-volume')
    .action(async (options: Query<typeof PATH>, command) => {
      const { client, output } = new Context(command, around);
      const query = { limit: LIST_DEFAULT, ...options };
      output.list(await client.list(PATH, { params: { query } }), columns);
    });

  group
    .command('show <run>')
    .description('look at a run and its steps')
    .action(async (id, _options, command) => {
      const { client, output } = new Context(command, around);
      const run = await client.get(ONE, at({ run: id }));
      output.show(run, details, run.steps.length > 0 ? `\n\n${table(run.steps, stepColumns)}` : '');
    });

  group
    .command('watch <run>')
    .description('follow a run to its end; exits like the command that began it')
    .action(async (id, _options, command) => {
      const { client, output } = new Context(command, around);
      const run = await watchRun(client, output, await client.get(ONE, at({ run: id })));
      output.show(run, details);
      requireGoodResult(run);
    });

  group
    .command('cancel <run>')
    .description('ask a run to stop; what it made is undone, as far as it can be')
    .action(async (id, _options, command) => {
      const { client, output } = new Context(command, around);
      const answer = await client.post(`${ONE}/cancel`, at({ run: id }));
      output.print(answer, () => `asked ${answer.run.kind} run ${answer.run.id} to stop`);
    });
  const ask = (name: 'pause' | 'resume' | 'finish', description: string, done: string) =>
    group
      .command(`${name} <run>`)
      .description(description)
      .action(async (id, _options, command) => {
        const { client, output } = new Context(command, around);
        const answer = await client.post(`${ONE}/${name}`, at({ run: id }));
        output.print(answer, () => `asked ${answer.run.kind} run ${answer.run.id} to ${done}`);
      });
  ask('pause', "let a run's job stand still; guests go on", 'stand still');
  ask('resume', "let a run's job go on", 'go on');
  ask('finish', 'end an export well: all of it was read', 'finish');

  group
    .command('speed <run> <size>')
    .description("most bytes per second of a run's job, like 50MiB; 0 for no limit")
    .action(async (id, text, _options, command) => {
      const { client, output } = new Context(command, around);
      const body = { bytesPerSecond: text === '0' ? 0 : parseSize(text) };
      const answer = await client.post(`${ONE}/speed`, { ...at({ run: id }), body });
      output.print(answer, () => `asked ${answer.run.kind} run ${answer.run.id} for another speed`);
    });
}
