// tidemark backup verify
import { resultOf, type Schema } from '@tidemark/client';
import type { Command } from 'commander';
import { parseSize } from '../sizes.ts';
import { at, Context, type Surroundings, withWait } from './context.ts';

/** Adds the command to its group. It fails, so that whoever calls it in a script is told, when there is damage. */
export function verifyCommand(group: Command, around: Surroundings): void {
  withWait(
    group
      .command('verify <backup>')
      .description('look at a backup without restoring it; fails when it is damaged'),
  )
    .option('--no-chain', 'only what is its own, not what it stands on')
    .option('--speed <size>', 'most bytes per second, like 50MiB', parseSize)
    .action(async (id, options, command) => {
      const context = new Context(command, around);
      const backup = at({ backup: id });
      const body = { chain: options.chain, speedBytesPerSecond: options.speed };
      const started = await context.client.post('/v1/backups/{backup}/verify', { ...backup, body });
      await context.finish(started, {
        wait: options.wait,
        refresh: async () => ({ backup: await context.client.get('/v1/backups/{backup}', backup) }),
        forPeople: ({ run }) => verdict(id, resultOf(run, 'verify')!),
      });
    });
}

function verdict(id: string, { result, damagedBytes, ranges, truncated }: Schema<'VerifyResult'>): string {
  if (result === 'sound') return `backup ${id} is sound`;
  return [
    `backup ${id} is DAMAGED: ${damagedBytes > 0 ? damagedBytes : 'none of the'} bytes of its disk`,
    ...ranges.map(({ offset, length }) => `  ${length} bytes at ${offset}`),
    ...(truncated ? ['  and more'] : []),
  ].join('\n');
}
