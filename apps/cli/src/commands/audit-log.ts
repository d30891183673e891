// tidemark audit-log
import type { Query, Schema } from '@tidemark/client';
import type { Command } from 'commander';
import { Option } from 'commander';
import { type Column, moment } from '../output.ts';
import { Context, parseMoment, type Surroundings, withPage } from './context.ts';

type AuditEntry = Schema<'AuditEntry'>;

const LIST_DEFAULT = 100;

const columns: readonly Column<AuditEntry>[] = [
  ['TIME', entry => moment(entry.at)],
  ['WHO', entry => entry.actor],
  ['WHAT', entry => entry.action],
  ['ON', entry => entry.subject],
  ['RESULT', entry => entry.code ?? entry.result],
  ['RUN', entry => entry.runId],
  ['FROM', entry => entry.remoteAddress],
];

/** Not to be mixed up with `volume audit`, which compares bitmaps with backups. */
export function auditLogCommand(program: Command, around: Surroundings): void {
  const command = program
    .command('audit-log')
    .description('who asked for which change, newest first; for admins')
    .option('--actor <name>', 'only what they asked for')
    .option('--action <text>', 'only where method and route hold this, such as DELETE or /tokens')
    .option('--subject <path>', 'only paths that begin with this')
    .option('--run-id <run>', 'only the request that started this run')
    .addOption(new Option('--result <result>', 'how it ended').choices(['done', 'refused', 'failed']))
    .option('--since <moment>', 'from that moment on', parseMoment)
    .option('--until <moment>', 'before that moment', parseMoment);
  withPage(command, LIST_DEFAULT).action(async (options: Query<'/v1/audit'>, self) => {
    const { client, output } = new Context(self, around);
    const query = { limit: LIST_DEFAULT, ...options };
    output.list(await client.list('/v1/audit', { params: { query } }), columns);
  });
}
