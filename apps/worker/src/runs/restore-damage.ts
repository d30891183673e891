// What a restore could not read of its backup, from the storage node that copied it.
import type { JsonObject } from '@tidemark/catalog';
import { z } from 'zod';
import type { RunContext } from './run-definition.ts';
import type { WatchedJob } from './watch-job.ts';

export const damageSchema = z.object({
  bytes: z.number(),
  ranges: z.array(z.object({ offset: z.number(), length: z.number() })),
  truncated: z.boolean(),
});
export type Damage = z.output<typeof damageSchema>;

/** Of an ended job. */
export async function damageOf(context: RunContext, { storageNode, jobId }: WatchedJob): Promise<Damage> {
  const { bytes, ranges, truncated } = await storageNode.jobs.getJobDamage(
    { jobId },
    { signal: context.stop },
  );
  return { bytes, ranges: ranges.map(({ offset, length }) => ({ offset, length })), truncated };
}

/** What the catalog keeps of it: where not all places are known, the whole disk has to be sent again. */
export function knownDamage(damage: Damage, sizeBytes: number): Damage {
  return damage.truncated ? { ...damage, ranges: [{ offset: 0, length: sizeBytes }] } : damage;
}

export function damageResult(damage: Damage): JsonObject {
  const isWhole = damage.bytes === 0;
  return { state: isWhole ? 'complete' : 'complete-with-holes', damage: isWhole ? null : damage };
}
