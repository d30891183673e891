// Removes entries of the audit log that are older than they are kept, a few thousand at a time.
import { Pruner, type PrunerOptions, untilNone } from './pruner.ts';

export function auditLogPruner(options: PrunerOptions): Pruner {
  const { catalog, limits, log } = options;
  const { auditLogRetentionMs: retentionMs, auditLogPruneMs: everyMs, auditLogPruneMax } = limits;
  const prune = async (before: Date, closing: AbortSignal) => {
    const pruned = await untilNone(() => catalog.auditLog.prune(before, auditLogPruneMax), closing);
    if (pruned > 0) log.info({ pruned, before }, 'audit log pruned');
  };
  return new Pruner(options, { retentionMs, everyMs, prune });
}
