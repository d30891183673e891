// When the bitmaps of each volume are audited: at intervals, as far as there is a backup to compare them with.
import { randomUUID } from 'node:crypto';
import { type Catalog, hasPassed, PAGE_ITEMS_MAX, type Run, type Volume } from '@tidemark/catalog';
import type { RunRequest } from '@tidemark/proto';
import type { Logger } from 'pino';
import type { WorkerLimits } from './limits.ts';
import { Rhythm } from './rhythm.ts';

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
    let cursor: string | null = null;
    do {
      const page: Awaited<ReturnType<Catalog['volumes']['list']>> = await this.#catalog.volumes.list({
        cursor,
        limit: PAGE_ITEMS_MAX,
      });
      for (const volume of page.items) if (volume.state === 'ready') await this.#lookAt(volume);
      cursor = page.nextCursor;
    } while (cursor !== null);
  }

  async #lookAt({ id: volumeId, storageNodeId, auditedAt }: Volume): Promise<void> {
    const { auditMs, auditSampleBytes: sampleBytes } = this.#limits;
    // Of a volume that was just audited nothing more need be asked.
    if (auditedAt !== null && !hasPassed(auditedAt, auditMs, new Date(this.#now()))) return;
    const { state } = await this.#catalog.storageNodes.get(storageNodeId);
    const oldest = await this.#catalog.backups.findFirstToAudit(volumeId);
    if (state !== 'online' || oldest === null) return;
    const request: RunRequest<'audit'> = { volumeId, repositoryId: null, sampleBytes };
    // A failed one is not repeated at once either.
    const isDue = (newest: Run | null, now: Date) => hasPassed(newest?.createdAt ?? oldest, auditMs, now);
    const run = { id: randomUUID(), kind: 'audit', storageNodeId, volumeId, request } as const;
    await this.#catalog.runs.createWhenDue(run, isDue);
  }
}
