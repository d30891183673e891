// tidemark volume audit
import type { Command } from 'commander';
import type { Run, Volume } from '../answers.ts';
import { parseSize } from '../sizes.ts';
import { Context, type Surroundings, segment, withWait } from './context.ts';

interface Answer {
  run: Run;
  volume: Volume | null;
}

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
      const path = `/v1/volumes/${segment(ref)}`;
      const started = await context.client.post<Answer>(`${path}/audit`, { repository, sampleBytes });
      await context.finish(started, {
        wait,
        refresh: async () => ({ volume: await context.client.get<Volume>(path) }),
        forPeople: ({ run }) => describe(ref, run),
      });
    });
}

function describe(ref: string, { result }: Run): string {
  const { checkedBytes, cleanBytes, backupId } = result ?? {};
  const what = `${checkedBytes} of ${cleanBytes} unchanged bytes of volume ${ref} compared with backup ${backupId}`;
  if (result?.result !== 'different') return `${what}: equal`;
  return `${what}: DIFFERENT at ${JSON.stringify(result.differing)}. The next backup is full.`;
}
