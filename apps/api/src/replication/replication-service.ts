// Replicas that operators ask for one by one, and the rules by which the worker makes them.
import { randomUUID } from 'node:crypto';
import {
  type Catalog,
  type CatalogTransaction,
  intendReplica,
  lookAtRule,
  type ReplicationRule,
} from '@tidemark/catalog';
import { TidemarkError } from '@tidemark/proto';
import type { z } from 'zod';
import { toBackupJson } from '../backups/backup-service.ts';
import { idOf } from '../filters.ts';
import { BLOCKED_TOLD_MAX } from '../limits.ts';
import { iso, isoOrNull } from '../moments.ts';
import { changedKeep } from '../retention/changed-keep.ts';
import type { StartedRun } from '../runs/run-json.ts';
import type { RunStarter } from '../runs/run-starter.ts';
import type { BackupJson } from '../schemas/backup.ts';
import type {
  ChangeReplicationRule,
  CreateReplicationRule,
  ReplicateBackup,
  ReplicationRuleJson,
  replicationRuleQuery,
} from '../schemas/replication.ts';

export class ReplicationService {
  readonly #catalog: Catalog;
  readonly #runs: RunStarter;
  readonly #now: () => Date;

  constructor(catalog: Catalog, runs: RunStarter, now: () => Date = () => new Date()) {
    this.#catalog = catalog;
    this.#runs = runs;
    this.#now = now;
  }

  replicate(backupId: string, body: ReplicateBackup): Promise<StartedRun<{ backup: BackupJson }>> {
    const { repository, flatten, speedBytesPerSecond = null } = body;
    return this.#runs.start(async (catalog, runId) => {
      const wanted = { backupId, repository, flatten, speedBytesPerSecond, ruleId: null };
      const { run, backup } = await intendReplica(catalog, runId, wanted);
      return { run, backup: toBackupJson(backup) };
    });
  }

  async list({ source, target, ...page }: z.output<typeof replicationRuleQuery>) {
    const { items, nextCursor } = await this.#catalog.replicationRules.list({
      ...page,
      sourceRepositoryId: await idOf(source, this.#catalog.repositories),
      targetRepositoryId: await idOf(target, this.#catalog.repositories),
    });
    return { items: items.map(rule => toJson(rule, null)), nextCursor };
  }

  async get(ref: string): Promise<ReplicationRuleJson> {
    const rule = await this.#catalog.replicationRules.get(ref);
    return toJson(rule, await this.#statusOf(rule));
  }

  async create(body: CreateReplicationRule): Promise<ReplicationRuleJson> {
    const { source, target, speedBytesPerSecond = null, ...settings } = body;
    const rule = await this.#catalog.transaction(async catalog => {
      const from = await catalog.repositories.getReady(source);
      const to = await catalog.repositories.getReady(target);
      if (from.id === to.id) {
        const text = `'${from.name}' cannot be replicated to itself. Name another repository as target.`;
        throw new TidemarkError('invalid-request', text);
      }
      await this.#requireNoLoop(catalog, { from: from.id, to: to.id });
      const ids = { id: randomUUID(), sourceRepositoryId: from.id, targetRepositoryId: to.id };
      return catalog.replicationRules.create({ ...ids, ...settings, speedBytesPerSecond });
    });
    return this.get(rule.id);
  }

  async change(ref: string, body: ChangeReplicationRule): Promise<ReplicationRuleJson> {
    const change = Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined));
    const { id } = await this.#catalog.transaction(async catalog => {
      const { replicationRules } = catalog;
      if (body.keep === undefined) return replicationRules.update(ref, change);
      const before = await replicationRules.getLocked(ref);
      const keep = changedKeep(before.keep, body.keep);
      return replicationRules.update(before.id, { ...change, keep });
    });
    return this.get(id);
  }

  /** What was replicated stays where it is. */
  async delete(ref: string): Promise<ReplicationRuleJson> {
    return toJson(await this.#catalog.replicationRules.delete(ref), null);
  }

  /** Two rules against each other would bring back for ever what the retention of one lets go. */
  async #requireNoLoop(catalog: CatalogTransaction, wanted: { from: string; to: string }): Promise<void> {
    let cursor: string | null = null;
    do {
      const page: Awaited<ReturnType<typeof catalog.replicationRules.list>> =
        await catalog.replicationRules.list({ cursor });
      const other = page.items.find(
        ({ sourceRepositoryId, targetRepositoryId }) =>
          sourceRepositoryId === wanted.to && targetRepositoryId === wanted.from,
      );
      if (other !== undefined) {
        const text =
          `Rule '${other.name}' replicates from '${other.source}' to '${other.target}', the other way round. Delete ` +
          'it first, or choose another repository.';
        throw new TidemarkError('invalid-request', text);
      }
      cursor = page.nextCursor;
    } while (cursor !== null);
  }

  async #statusOf(rule: ReplicationRule): Promise<ReplicationRuleJson['status']> {
    const status = await lookAtRule(this.#catalog, rule, { now: this.#now() });
    const { live: running, failures, failedAt, error } = await this.#catalog.replicationRules.runs(rule.id);
    return {
      missing: { backups: status.plan.missing.length, bytes: status.missingBytes },
      lagMs: status.lagMs,
      newestPointInTime: isoOrNull(status.newestPointInTime),
      running,
      blocked: status.plan.blocked
        .slice(0, BLOCKED_TOLD_MAX)
        .map(({ backupId: backup, why }) => ({ backup, why })),
      failures,
      failedAt: isoOrNull(failedAt),
      error,
    };
  }
}

function toJson(rule: ReplicationRule, status: ReplicationRuleJson['status']): ReplicationRuleJson {
  return { ...rule, createdAt: iso(rule.createdAt), status };
}
