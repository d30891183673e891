// When the bitmaps of each volume are audited: at intervals, as far as there is a backup to compare them with. Volumes
// take turns over the interval, and one at a time on each storage node: also those that were missed for a day.
import { randomUUID } from 'node:crypto';
import {
  type Catalog,
  latestPossible,
  PAGE_ITEMS_MAX,
  pagesOf,
  type Run,
  type Volume,
} from '@tidemark/catalog';
import type { RunRequest } from '@tidemark/proto';
import type { Logger } from 'pino';
import type { WorkerLimits } from './limits.ts';
import { lookAtEach } from './look-at-each.ts';
import { Rhythm } from './rhythm.ts';
import { turnBefore } from './turns.ts';

export class AuditScheduler {
  readonly #catalog: Catalog;
  readonly #limits: WorkerLimits;
  readonly #now: () => number;
  readonly #rhythm: Rhythm;

  constructor(options: { catalog: Catalog; limits: WorkerLimits; log: Logger; now: () => number }) {
    this.#catalog = options.catalog;
    this.#limits = options.limits;
    this.#now = options.now;
    this.#rhythm = new Rhythm(() => this.#lookAtAll(), options.limits.auditLookMs, options.log);
  }

  start(): void {
    if (this.#limits.auditMs > 0) this.#rhythm.start();
  }

  close(): Promise<void> {
    return this.#rhythm.close();
  }

  async #lookAtAll(): Promise<void> {
    const due: Volume[] = [];
    const volumes = pagesOf(page => this.#catalog.volumes.list({ ...page, limit: PAGE_ITEMS_MAX }));
    for await (const some of volumes) {
      // Of a volume that was audited since its turn nothing more need be asked.
      due.push(...some.filter(one => one.state === 'ready' && this.#isDue(one.auditedAt, one.id)));
    }
    const auditedMs = ({ auditedAt }: Volume) => auditedAt?.getTime() ?? 0;
    due.sort((one, other) => auditedMs(one) - auditedMs(other));
    await lookAtEach([due], volume => this.#lookAt(volume));
  }

  /** Its turn has come since then, or that moment tells nothing: it is yet to come. */
  #isDue(since: Date | null, volumeId: string, now = new Date(this.#now())): boolean {
    if (since === null || since > latestPossible(now)) return true;
    return since < turnBefore(now.getTime(), this.#limits.auditMs, volumeId);
  }

  async #lookAt({ id: volumeId, storageNodeId }: Volume): Promise<void> {
    const { auditSampleBytes: sampleBytes } = this.#limits;
    const { state } = await this.#catalog.storageNodes.get(storageNodeId);
    const oldest = await this.#catalog.backups.findFirstToAudit(volumeId);
    if (state !== 'online' || oldest === null) return;
    const request: RunRequest<'audit'> = { volumeId, repositoryId: null, sampleBytes };
    // A failed one is not repeated at once either.
    const isDue = (newest: Run | null, now: Date) => this.#isDue(newest?.createdAt ?? oldest, volumeId, now);
    const run = { id: randomUUID(), kind: 'audit', storageNodeId, volumeId, request } as const;
    await this.#catalog.runs.createWhenDue(run, isDue);
  }
}
