// Webhooks as a worker serves them: one worker at a time for each, so that deliveries keep their order. Events become
// deliveries in the order of their ids; a webhook's cursor says up to which they have.
import { randomUUID } from 'node:crypto';
import { type Labels, matchesSelector, parseSelector } from '@tidemark/proto';
import { visibleEventIds } from './event-visibility.ts';
import type { EventModel, WebhookModel } from './generated/models.ts';
import type { Db, Scope, Tell } from './scope.ts';
import { toDelivery, toWebhook, type Webhook, type WebhookDelivery } from './webhook-repository.ts';
import { isOrphaned, suspendOrphaned } from './webhook-tokens.ts';

export interface ServedWebhook extends Webhook {
  sealedSecret: string;
}

/** What became of one attempt. */
export interface Attempt {
  delivered: boolean;
  status: number | null;
  detail: string | null;
  /** No attempt before this has passed, unless it was taken. */
  delayMs: number;
}

export interface DeliveryRules {
  owner: string;
  leaseMs: number;
  /** A delivery is dead after so many. */
  attemptsMax: number;
  /** A webhook is suspended after so many dead deliveries in a row. */
  deathsMax: number;
  /** A longer delay is that of a clock that was set back meanwhile. */
  delayMaxMs: number;
}

/** The word that a webhook gets instead of events that were pruned before they were sent. */
const GAP = 'events-pruned';

/** The body of what is sent, from an event or about its webhook. */
export function deliveryBody(delivery: { id: string; webhook: string; kind: string; more: object }): string {
  const { id, webhook, kind, more } = delivery;
  return JSON.stringify({ deliveryId: id, webhook, kind, ...more });
}

export class WebhookDeliveryRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** Webhooks that have something to send, or may have, or have to end, and nobody else serves; at most `limit`. */
  claimDue(rules: DeliveryRules, limit: number): Promise<ServedWebhook[]> {
    const { owner, leaseMs, delayMaxMs } = rules;
    return this.#scope.single(async db => {
      const claimed = await db.$queryRaw<{ id: string }[]>`
        UPDATE webhook SET lease_owner = ${owner}, lease_until = now() + ${leaseMs} * interval '1 ms'
        WHERE id IN (
          SELECT id FROM webhook WHERE state = 'enabled'
            AND (lease_until IS NULL OR lease_until < now()
              OR lease_until > now() + (${leaseMs} + 1000) * interval '1 ms')
            AND ((next_at IS NULL OR next_at <= now()
                OR next_at > now() + (${delayMaxMs} + 1000) * interval '1 ms')
              AND (cursor < COALESCE((SELECT max(id) FROM event), 0) OR EXISTS (
                SELECT 1 FROM webhook_delivery WHERE webhook_id = webhook.id AND state = 'pending'))
              OR ${isOrphaned(this.#scope.now())})
          ORDER BY next_at NULLS FIRST, id LIMIT ${limit} FOR UPDATE SKIP LOCKED)
        RETURNING id::text`;
      if (claimed.length === 0) return [];
      const rows = await db.webhook.findMany({ where: { id: { in: claimed.map(({ id }) => id) } } });
      return rows.map(row => ({ ...toWebhook(row), sealedSecret: row.secret }));
    });
  }

  /**
   * Makes deliveries of the next events that are for the webhook, unless `pendingMax` wait already; looks at `limit`
   * events at most, and returns at how many it did. 0 as well when another worker serves the webhook by now, or when
   * it has no usable token behind it any more: it is suspended afterwards.
   */
  async fanOut(id: string, options: { owner: string; limit: number; pendingMax: number }): Promise<number> {
    const { owner, limit, pendingMax } = options;
    return this.#scope.write(async (db, tell) => {
      await db.$queryRaw`SELECT 1 FROM webhook WHERE id = ${id}::uuid FOR UPDATE`;
      const row = await db.webhook.findFirst({ where: { id, leaseOwner: owner, state: 'enabled' } });
      if (row === null || (await suspendOrphaned(db, tell, { now: this.#scope.now(), id }))) return 0;
      const waiting = await db.webhookDelivery.count({ where: { webhookId: id, state: 'pending' } });
      if (waiting >= pendingMax) return 0;
      const cursor = await passGap(db, row);
      const events = await db.event.findMany({
        where: { id: { gt: cursor } },
        orderBy: { id: 'asc' },
        take: Math.min(limit, pendingMax - waiting),
      });
      const newest = events.at(-1);
      if (newest === undefined) return 0;
      await db.webhookDelivery.createMany({
        data: await deliveriesOf(db, row, events),
        skipDuplicates: true,
      });
      await db.webhook.update({ where: { id }, data: { cursor: newest.id } });
      return events.length;
    });
  }

  /** The one that is sent next; null as well when the webhook is not enabled any more. */
  async nextPending(webhookId: string): Promise<WebhookDelivery | null> {
    const where = { webhookId, state: 'pending', webhook: { state: 'enabled' } };
    const row = await this.#scope.read(db =>
      db.webhookDelivery.findFirst({ where, orderBy: { sequence: 'asc' } }),
    );
    return row && toDelivery(row);
  }

  /** False when the webhook is not this worker's any more, or is not enabled: nothing is sent then. */
  record(delivery: WebhookDelivery, attempt: Attempt, rules: DeliveryRules): Promise<boolean> {
    const { owner, leaseMs, attemptsMax } = rules;
    const { delivered, status, detail } = attempt;
    return this.#scope.write(async (db, tell) => {
      const attempts = delivery.attempts + 1;
      const isDead = !delivered && attempts >= attemptsMax;
      const state = delivered ? 'delivered' : isDead ? 'dead' : 'pending';
      const data = { state, attempts, status, detail, attemptedAt: this.#scope.now() };
      await db.webhookDelivery.updateMany({ where: { id: delivery.id, state: 'pending' }, data });
      // What is taken or dead makes way for the next at once.
      const delayMs = state === 'pending' ? attempt.delayMs : null;
      const kept = await db.$executeRaw`
        UPDATE webhook SET lease_until = now() + ${leaseMs} * interval '1 ms',
          next_at = now() + ${delayMs}::float8 * interval '1 ms',
          deaths_in_a_row = CASE WHEN ${delivered} THEN 0 ELSE deaths_in_a_row + ${isDead ? 1 : 0} END
        WHERE id = ${delivery.webhookId}::uuid AND lease_owner = ${owner} AND state = 'enabled'`;
      const isSuspended = isDead && (await this.#mourn(db, tell, delivery, rules));
      return kept === 1 && !isSuspended;
    });
  }

  /** It is not served before that delay has passed; its next delivery tells why, and has had no attempt. */
  async hold(id: string, { owner, delayMs, detail }: { owner: string; delayMs: number; detail: string }) {
    await this.#scope.write(async db => {
      const held = await db.$executeRaw`
        UPDATE webhook SET next_at = now() + ${delayMs}::float8 * interval '1 ms'
        WHERE id = ${id}::uuid AND lease_owner = ${owner}`;
      if (held === 0) return;
      await db.$executeRaw`
        UPDATE webhook_delivery SET detail = ${detail} WHERE id = (
          SELECT id FROM webhook_delivery WHERE webhook_id = ${id}::uuid AND state = 'pending'
          ORDER BY sequence LIMIT 1)`;
    });
  }

  /**
   * Puts each secret into the catalog as `reseal` says, unless it is null; returns how many. What somebody else changed
   * meanwhile stays as they did. `reseal` throws nothing.
   */
  async resealSecrets(reseal: (webhook: ServedWebhook) => string | null): Promise<number> {
    const rows = await this.#scope.read(db => db.webhook.findMany());
    let resealed = 0;
    for (const row of rows) {
      const secret = reseal({ ...toWebhook(row), sealedSecret: row.secret });
      if (secret === null) continue;
      const where = { id: row.id, secret: row.secret };
      const { count } = await this.#scope.single(db => db.webhook.updateMany({ where, data: { secret } }));
      resealed += count;
    }
    return resealed;
  }

  /** Another worker may serve the webhook at once. */
  async release(id: string, owner: string): Promise<void> {
    await this.#scope.write(async db => {
      const data = { leaseOwner: null, leaseUntil: null };
      await db.webhook.updateMany({ where: { id, leaseOwner: owner }, data });
    });
  }

  /** Removes deliveries that ended before then, at most `limit`; returns how many. */
  pruneDeliveries(before: Date, limit: number): Promise<number> {
    return this.#scope.write(
      db => db.$executeRaw`
        DELETE FROM webhook_delivery WHERE id IN (
          SELECT id FROM webhook_delivery
          WHERE state IN ('delivered', 'dead') AND attempted_at < ${before} LIMIT ${limit})`,
    );
  }

  /** Whether that was one too many. */
  async #mourn(
    db: Db,
    tell: Tell,
    delivery: WebhookDelivery,
    { deathsMax }: DeliveryRules,
  ): Promise<boolean> {
    const about = { subjectType: 'webhook', subjectId: delivery.webhookId } as const;
    tell({ kind: 'webhook-delivery-dead', ...about, data: { deliveryId: delivery.id, kind: delivery.kind } });
    const reason = 'deliveries-died';
    const { count } = await db.webhook.updateMany({
      where: { id: delivery.webhookId, state: 'enabled', deathsInARow: { gte: deathsMax } },
      data: { state: 'suspended', suspendedFor: reason },
    });
    if (count === 1) tell({ kind: 'webhook-suspended', ...about, data: { reason, deaths: deathsMax } });
    return count === 1;
  }
}

/** The id after which to read on: behind what was pruned, which is told. */
async function passGap(db: Db, webhook: WebhookModel): Promise<bigint> {
  const horizon = await db.eventHorizon.findUniqueOrThrow({ where: { id: 1 } });
  if (horizon.prunedUpTo <= webhook.cursor) return webhook.cursor;
  const id = randomUUID();
  const more = { after: Number(webhook.cursor), upTo: Number(horizon.prunedUpTo) };
  const body = deliveryBody({ id, webhook: webhook.name, kind: GAP, more });
  await db.webhookDelivery.create({ data: { id, webhookId: webhook.id, kind: GAP, body, state: 'pending' } });
  await db.webhook.update({ where: { id: webhook.id }, data: { cursor: horizon.prunedUpTo } });
  return horizon.prunedUpTo;
}

async function deliveriesOf(db: Db, webhook: WebhookModel, events: readonly EventModel[]) {
  const kinds = new Set(webhook.kinds as string[]);
  // What tells of deliveries would beget deliveries without end.
  const wanted = events.filter(
    ({ kind, subjectType }) => subjectType !== 'webhook' && (kinds.size === 0 || kinds.has(kind)),
  );
  const labels = webhook.selector === '' ? null : await labelsOf(db, wanted);
  const selector = parseSelector(webhook.selector);
  const seen = await seenBy(db, webhook, wanted);
  const fits = (event: EventModel) => {
    if (seen !== null && !seen.has(event.id)) return false;
    const own = labels?.get(event.volumeId ?? event.subjectId);
    return labels === null || (own !== undefined && matchesSelector(selector, own));
  };
  return wanted.filter(fits).map(({ id: eventId, ...event }) => {
    const id = randomUUID();
    const more = { event: { id: Number(eventId), ...event } };
    const body = deliveryBody({ id, webhook: webhook.name, kind: event.kind, more });
    return { id, webhookId: webhook.id, eventId, kind: event.kind, body, state: 'pending' };
  });
}

/** Those that whoever added the webhook sees; null: all. */
async function seenBy(
  db: Db,
  webhook: WebhookModel,
  events: readonly EventModel[],
): Promise<Set<bigint> | null> {
  if (webhook.scope === '') return null;
  const viewer = { name: webhook.createdBy, visible: parseSelector(webhook.scope) };
  return visibleEventIds(
    db,
    viewer,
    events.map(({ id }) => id),
  );
}

/** Of the volumes, storage nodes and repositories that the events are about, as they are now or were at their end. */
async function labelsOf(db: Db, events: readonly EventModel[]): Promise<Map<string, Labels>> {
  const ids = [...new Set(events.map(event => event.volumeId ?? event.subjectId))];
  const query = { where: { id: { in: ids } }, select: { id: true, labels: true } };
  const rows = [
    ...(await db.volume.findMany(query)),
    ...(await db.storageNode.findMany(query)),
    ...(await db.repository.findMany(query)),
  ];
  const gone = await db.event.findMany({
    where: { kind: 'volume-deleted', subjectId: { in: ids } },
    orderBy: { id: 'asc' },
    select: { subjectId: true, data: true },
  });
  const last = gone.flatMap(({ subjectId: id, data }) => {
    const { labels } = data as { labels?: Labels };
    return labels === undefined ? [] : [{ id, labels }];
  });
  return new Map([...last, ...rows].map(({ id, labels }) => [id, labels as Labels]));
}
