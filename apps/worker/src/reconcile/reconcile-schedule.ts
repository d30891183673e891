// When a storage node is compared with the catalog: after it was away or restarted, and at intervals.
import { randomUUID } from 'node:crypto';
import { type Catalog, hasPassed, type Run, type StorageNode } from '@tidemark/catalog';
import { parseRunRequest, type RunRequest } from '@tidemark/proto';
import type { WorkerLimits } from '../limits.ts';

/** Of the interval between two: as late it may be noticed that one is due. */
const LOOKS_AN_INTERVAL = 10;

export class ReconcileSchedule {
  readonly #catalog: Catalog;
  readonly #limits: WorkerLimits;
  /** When each storage node had started, as this worker last heard. */
  readonly #startedAtMs = new Map<string, number>();
  /** When the catalog was last asked, and knew of none that is due; of `performance.now()`. */
  readonly #restsSince = new Map<string, number>();

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
    // Until the catalog has decided on what is new it is asked each time.
    if (before !== startedAtMs || wasAway) this.#restsSince.delete(node.id);
    const restMs = performance.now() - (this.#restsSince.get(node.id) ?? Number.NEGATIVE_INFINITY);
    if (restMs < reconcileMs / LOOKS_AN_INTERVAL) return;
    const cause = wasAway || hasRestarted ? 'returned' : 'interval';
    const request: RunRequest<'reconcile'> = { storageNodeId, cause, startedAtMs };
    const isDue = (newest: Run | null, now: Date) => {
      // Not told of while another one goes on: then it is asked again.
      this.#restsSince.set(node.id, performance.now());
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
