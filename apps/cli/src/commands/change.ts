// tidemark checkpoint changed-blocks and changed-bytes
import { type Query, type Schema, UnreachableFailure } from '@tidemark/client';
import { type Command, InvalidArgumentError } from 'commander';
import { type Column, size, table } from '../output.ts';
import { Context, parseCount, type Surroundings } from './context.ts';

type Changes = Schema<'ChangedBlocks'>;
type ChangesQuery = Query<'/v1/volumes/{volume}/changed-blocks'>;
type Extent = Schema<'Extent'>;

const columns: readonly Column<Extent>[] = [
  ['OFFSET', extent => extent.offset],
  ['LENGTH', extent => extent.length],
];

/** As wide as the offset of the largest disk. */
const OFFSET_WIDTH = 16;

const withEnds = (command: Command): Command =>
  command
    .requiredOption('--since <checkpoint>', 'changes since this one')
    .option('--until <checkpoint>', 'up to this later one (default: until now)');

export function changeCommands(group: Command, around: Surroundings): void {
  withEnds(group.command('changed-blocks <volume>').description('list what changed, as extents'))
    .option('--limit <count>', 'one page of so many extents (default: all of them)', parseCount)
    .option('--offset <byte>', 'nextOffset of the page before', parseByte)
    .addHelpText('after', '\nWithout --limit, --json prints one extent a line as it comes, and the end last.')
    .action(async (volume, query: ChangesQuery, command) => {
      const context = new Context(command, around);
      if (query.limit === undefined) return printAll(context, volume, query);
      const params = { path: { volume }, query };
      const page = await context.client.get('/v1/volumes/{volume}/changed-blocks', { params });
      context.output.print(page, () => pageText(page));
    });

  withEnds(group.command('changed-bytes <volume>').description('count what changed')).action(
    async (volume, query: Query<'/v1/volumes/{volume}/changed-bytes'>, command) => {
      const { client, output } = new Context(command, around);
      const params = { path: { volume }, query };
      const answer = await client.get('/v1/volumes/{volume}/changed-bytes', { params });
      output.print(answer, () => `${size(answer.changedBytes)} (${answer.changedBytes} bytes)`);
    },
  );
}

function parseByte(text: string): number {
  if (/^\d{1,16}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Give a whole number of bytes.');
}

function pageText({ extents, nextOffset }: Changes): string {
  const rows = extents.length === 0 ? 'none' : table(extents, columns);
  return nextOffset === null ? rows : `${rows}\nmore: --offset ${nextOffset}`;
}

/** Line by line, however many there are. Rejects when the list broke off. */
async function printAll({ client, output }: Context, volume: string, query: ChangesQuery): Promise<void> {
  let count = 0;
  let isWhole = false;
  const params = { path: { volume }, query };
  for await (const line of client.jsonLines('/v1/volumes/{volume}/changed-blocks', { params })) {
    isWhole = 'end' in line;
    if (output.isJson) await output.line(JSON.stringify(line));
    else if ('offset' in line) {
      if (count === 0) await output.line(`${'OFFSET'.padEnd(OFFSET_WIDTH)}  LENGTH`);
      await output.line(`${String(line.offset).padEnd(OFFSET_WIDTH)}  ${line.length}`);
    } else if (count === 0) await output.line('none');
    count += 1;
  }
  if (isWhole) return;
  throw new UnreachableFailure(`The list of ${client.url} broke off after ${count} lines. Ask for it again.`);
}
