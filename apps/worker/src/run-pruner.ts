// Removes runs that ended longer ago than they are kept, a few hundred at a time, in a sweep from the oldest on.
import type { RunHistoryCursor } from '@tidemark/catalog';
import { Pruner, type PrunerOptions } from './pruner.ts';

export function runPruner(options: PrunerOptions): Pruner {
  const { catalog, limits, log } = options;
  const { runRetentionMs: retentionMs, runPruneMs: everyMs, runPruneMax } = limits;
  const prune = async (before: Date, closing: AbortSignal) => {
    let pruned = 0;
    let cursor: RunHistoryCursor | null = null;
    do {
      const step = await catalog.runHistory.prune(before, runPruneMax, cursor);
      pruned += step.pruned;
      cursor = step.next;
    } while (cursor !== null && !closing.aborted);
    if (pruned > 0) log.info({ pruned, before }, 'runs pruned');
  };
  return new Pruner(options, { retentionMs, everyMs, prune });
}
