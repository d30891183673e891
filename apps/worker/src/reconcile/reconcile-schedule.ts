// When a storage node is compared with the catalog: after it was away or restarted, and at intervals.
import { randomUUID } from 'node:crypto';
import { type Catalog, hasPassed, type Run, type StorageNode } from '@tidemark/catalog';
import { parseRunRequest, type RunRequest } from '@tidemark/proto';
import type { WorkerLimits } from '../limits.ts';

export class ReconcileSchedule {
  readonly #catalog: Catalog;
  readonly #limits: WorkerLimits;
  /** When each storage node had started, as this worker last heard. */
  readonly #startedAtMs = new Map<string, number>();

  constructor(options: { catalog: Catalog; limits: WorkerLimits }) {
    this.#catalog = options.catalog;
    this.#limits = options.limits;
  }

  /** To be told each time that a storage node answers; `wasAway`: it did not before. Another worker is told too. */
  async heardOf(node: StorageNode, { startedAtMs, wasAway }: { startedAtMs: number; wasAway: boolean }) {
    const { reconcileMs, reconcileQuietMs } = this.#limits;
    if (reconcileMs === 0) return;
    const before = this.#startedAtMs.get(node.id);
    this.#startedAtMs.set(node.id, startedAtMs);
    const hasRestarted = before !== undefined && before !== startedAtMs;
    const { id: storageNodeId } = node;
    const cause = wasAway || hasRestarted ? 'returned' : 'interval';
    const request: RunRequest<'reconcile'> = { storageNodeId, cause, startedAtMs };
    const isDue = (newest: Run | null, now: Date) => {
      const seen = newest && parseRunRequest('reconcile', newest.request).startedAtMs;
      // Restarted since the last time, also when no worker was there to hear of it; asked about once.
      if (seen === null ? hasRestarted : seen !== startedAtMs) return true;
      return hasPassed(newest?.createdAt ?? node.createdAt, wasAway ? reconcileQuietMs : reconcileMs, now);
    };
    const run = await this.#catalog.runs.createWhenDue(
      { id: randomUUID(), kind: 'reconcile', storageNodeId, request },
      isDue,
    );
    if (run) await this.#catalog.runs.deleteDull(run);
  }
}
