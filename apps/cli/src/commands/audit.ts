// tidemark volume audit
import { resultOf, type Schema } from '@tidemark/client';
import type { Command } from 'commander';
import { parseSize } from '../sizes.ts';
import { at, Context, type Surroundings, withWait } from './context.ts';

type Run = Schema<'Run'>;

/** Fails, so that whoever calls it in a script is told, when bitmaps and backup do not agree. */
export function auditCommand(volumes: Command, around: Surroundings): void {
  withWait(
    volumes
      .command('audit <volume>')
      .description('compare what its bitmaps call unchanged with its newest backup; fails when that differs'),
  )
    .option('--repository <ref>', 'whose newest backup is compared with (default: the newest of all)')
    .option('--sample <size>', 'how much to read, chosen by chance; 0: all (default: 64MiB)', parseSize)
    .action(async (ref, { repository, sample: sampleBytes, wait }, command) => {
      const context = new Context(command, around);
      const volume = at({ volume: ref });
      const body = { repository, sampleBytes };
      const started = await context.client.post('/v1/volumes/{volume}/audit', { ...volume, body });
      await context.finish(started, {
        wait,
        refresh: async () => ({ volume: await context.client.get('/v1/volumes/{volume}', volume) }),
        forPeople: ({ run }) => describe(ref, run),
      });
    });
}

function describe(ref: string, run: Run): string {
  const result = resultOf(run, 'audit');
  const { checkedBytes, cleanBytes, backupId } = result ?? {};
  const what = `${checkedBytes} of ${cleanBytes} unchanged bytes of volume ${ref} compared with backup ${backupId}`;
  if (result?.result !== 'different') return `${what}: equal`;
  return `${what}: DIFFERENT at ${JSON.stringify(result.differing)}. The next backup is full.`;
}
