// Removes events that are older than they are kept, and as old deliveries of them, a few thousand at a time.
import { Pruner, type PrunerOptions, untilNone } from './pruner.ts';

export function eventPruner(options: PrunerOptions): Pruner {
  const { catalog, limits, log } = options;
  const { eventRetentionMs: retentionMs, eventPruneMs: everyMs, eventPruneMax } = limits;
  const prune = async (before: Date, closing: AbortSignal) => {
    const pruned = await untilNone(() => catalog.events.prune(before, eventPruneMax), closing);
    const deliveries = await untilNone(
      () => catalog.webhookDeliveries.pruneDeliveries(before, eventPruneMax),
      closing,
    );
    if (pruned + deliveries > 0) log.info({ pruned, deliveries, before }, 'events pruned');
  };
  return new Pruner(options, { retentionMs, everyMs, prune });
}
