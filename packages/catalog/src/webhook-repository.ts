// Webhooks as operators see them: where events are sent to, and what became of each delivery.
import { selectorText } from '@tidemark/proto';
import { CatalogError, nameTaken, notFound } from './errors.ts';
import type { WebhookDeliveryModel, WebhookModel } from './generated/models.ts';
import { nameHolds, type Page, type PageOptions, pageQuery, toPage } from './page.ts';
import { byRef, isId } from './ref.ts';
import type { Db, Scope } from './scope.ts';
import { viewerOf } from './visibility.ts';

export type WebhookState = 'enabled' | 'disabled' | 'suspended';
export type SuspensionReason = 'deliveries-died' | 'token-revoked' | 'token-expired';
export type DeliveryState = 'pending' | 'delivered' | 'dead';

export interface Webhook {
  id: string;
  name: string;
  url: string;
  /** Empty: all. */
  kinds: string[];
  /** Empty: all. */
  selector: string;
  /** Who added it, and the scope that they had: what is outside is not sent. Empty: all. */
  createdBy: string;
  scope: string;
  /** Whoever changed it last. It ends with their token. */
  onBehalfOf: string;
  state: WebhookState;
  /** Null unless it is suspended. */
  suspendedFor: SuspensionReason | null;
  /** Deliveries that died since the last one that was taken. */
  deathsInARow: number;
  /** No delivery before this moment. */
  nextAt: Date | null;
  createdAt: Date;
}

export interface WebhookDelivery {
  id: string;
  webhookId: string;
  /** Null: no event, but a ping or a word about events that are gone. */
  eventId: number | null;
  kind: string;
  /** As it is sent, byte by byte. */
  body: string;
  state: DeliveryState;
  attempts: number;
  /** Of the last answer. */
  status: number | null;
  /** What went wrong with the last attempt. */
  detail: string | null;
  attemptedAt: Date | null;
  createdAt: Date;
}

export interface NewWebhook {
  id: string;
  name: string;
  url: string;
  kinds: readonly string[];
  selector: string;
  sealedSecret: string;
}

export interface WebhookChange {
  url?: string | undefined;
  kinds?: readonly string[] | undefined;
  selector?: string | undefined;
  sealedSecret?: string | undefined;
  /** Also takes one up again that was suspended. */
  enabled?: boolean | undefined;
}

export interface WebhookFilter {
  state?: WebhookState | undefined;
  /** Part of the name. */
  name?: string | undefined;
  onBehalfOf?: string | undefined;
}

export function toWebhook(row: WebhookModel): Webhook {
  const { id, name, url, selector, createdBy, scope, onBehalfOf, deathsInARow, nextAt, createdAt } = row;
  const kinds = row.kinds as string[];
  return {
    id,
    name,
    url,
    kinds,
    selector,
    createdBy,
    scope,
    onBehalfOf,
    state: row.state as WebhookState,
    suspendedFor: row.suspendedFor as SuspensionReason | null,
    deathsInARow,
    nextAt,
    createdAt,
  };
}

export function toDelivery({ sequence: _, ...row }: WebhookDeliveryModel): WebhookDelivery {
  const eventId = row.eventId === null ? null : Number(row.eventId);
  return { ...row, eventId, state: row.state as DeliveryState };
}

function readSequence(cursor: string): bigint {
  if (/^\d{1,18}$/.test(cursor)) return BigInt(cursor);
  const text = `The cursor '${cursor}' is not one this list gave out. Start again without a cursor.`;
  throw new CatalogError('catalog', 'invalid-cursor', text);
}

export class WebhookRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** Enabled, for events from now on that whoever adds it sees. Rejects `name-taken`. */
  create({ kinds, sealedSecret, ...webhook }: NewWebhook): Promise<Webhook> {
    return this.#scope.write(async (db, tell) => {
      const newest = await db.event.findFirst({ orderBy: { id: 'desc' }, select: { id: true } });
      const visible = this.#scope.acting()?.visible ?? [];
      const by = { createdBy: this.#actor, onBehalfOf: this.#actor, scope: selectorText(visible) };
      const data = {
        ...{ ...webhook, ...by, kinds: [...kinds], state: 'enabled', cursor: newest?.id ?? 0n },
        secret: sealedSecret,
      };
      const row = await db.webhook.create({ data }).catch(nameTaken('webhook', webhook.name));
      tell({ kind: 'webhook-added', subjectType: 'webhook', subjectId: row.id, data: { name: row.name } });
      return toWebhook(row);
    });
  }

  /** Rejects `not-found`. */
  async get(ref: string): Promise<Webhook> {
    return toWebhook(await this.#scope.read(db => this.#find(db, ref)));
  }

  /** Who sees some volumes alone sees the webhooks that they have added. */
  get #visible(): { createdBy?: string } {
    const viewer = viewerOf(this.#scope);
    return viewer === null ? {} : { createdBy: viewer.name };
  }

  get #actor(): string {
    return this.#scope.acting()?.name ?? 'system';
  }

  async #find(db: Db, ref: string): Promise<WebhookModel> {
    const row = await db.webhook.findFirst({ where: { ...byRef(ref), ...this.#visible } });
    if (!row) throw notFound('webhook', ref);
    return row;
  }

  /** Oldest first. */
  list(options: PageOptions & WebhookFilter = {}): Promise<Page<Webhook>> {
    const { after, orderBy, take, limit } = pageQuery(options, 'asc');
    const { state, name, onBehalfOf } = options;
    const filter = {
      ...nameHolds(name),
      ...(state !== undefined && { state }),
      ...(onBehalfOf !== undefined && { onBehalfOf }),
    };
    const where = { AND: [after, this.#visible, filter] };
    return this.#scope.read(async db =>
      toPage(await db.webhook.findMany({ where, orderBy, take }), limit, toWebhook),
    );
  }

  /**
   * What is sent next is sent like this, on behalf of whoever asks; deliveries that are made already keep their bodies.
   * Rejects `not-found`.
   */
  update(id: string, { kinds, enabled, sealedSecret: secret, ...change }: WebhookChange): Promise<Webhook> {
    return this.#scope.write(async (db, tell) => {
      const state = enabled === undefined ? {} : { state: enabled ? 'enabled' : 'disabled' };
      const resumed = enabled === undefined ? {} : { suspendedFor: null };
      // Who changes it has put something right: it is tried at once, and has all its tries again.
      const anew = enabled === false ? {} : { nextAt: null, deathsInARow: 0 };
      const data = {
        ...{
          ...change,
          ...state,
          ...resumed,
          ...anew,
          onBehalfOf: this.#actor,
          ...(kinds !== undefined && { kinds: [...kinds] }),
        },
        ...(secret !== undefined && { secret }),
      };
      const { count } = await db.webhook.updateMany({ where: { id }, data });
      if (count === 0) throw notFound('webhook', id);
      tell({ kind: 'webhook-updated', subjectType: 'webhook', subjectId: id, data: state });
      return toWebhook(await db.webhook.findUniqueOrThrow({ where: { id } }));
    });
  }

  /** Its deliveries go with it. Rejects `not-found`. */
  delete(ref: string): Promise<Webhook> {
    return this.#scope.write(async (db, tell) => {
      const row = await this.#find(db, ref);
      await db.webhook.delete({ where: { id: row.id } });
      tell({ kind: 'webhook-removed', subjectType: 'webhook', subjectId: row.id, data: { name: row.name } });
      return toWebhook(row);
    });
  }

  /** One more delivery, after those that wait. */
  async addPing(delivery: { id: string; webhookId: string; body: string }): Promise<WebhookDelivery> {
    const data = { ...delivery, kind: 'ping', state: 'pending' };
    return this.#scope.write(async db => {
      // Whoever pings wants to know now.
      await db.webhook.updateMany({ where: { id: delivery.webhookId }, data: { nextAt: null } });
      return toDelivery(await db.webhookDelivery.create({ data }));
    });
  }

  /** Those that are sent last first. */
  async listDeliveries(
    webhookId: string,
    { state, cursor, limit }: PageOptions & { state?: DeliveryState | undefined } = {},
  ): Promise<Page<WebhookDelivery>> {
    const { take, limit: shown } = pageQuery({ limit }, 'desc');
    const before = cursor ? { sequence: { lt: readSequence(cursor) } } : {};
    const where = { webhookId, ...before, ...(state !== undefined && { state }) };
    const rows = await this.#scope.read(db =>
      db.webhookDelivery.findMany({ where, orderBy: { sequence: 'desc' }, take }),
    );
    const items = rows.slice(0, shown);
    const last = items.at(-1);
    const nextCursor = rows.length > shown && last ? String(last.sequence) : null;
    return { items: items.map(toDelivery), nextCursor };
  }

  /** It is sent again, with all its tries, before what comes after it. Rejects `webhook-delivery-not-found`. */
  redeliver(webhookId: string, id: string): Promise<WebhookDelivery> {
    return this.#scope.write(async db => {
      const where = { id, webhookId };
      const row = isId(id) ? await db.webhookDelivery.findFirst({ where }) : null;
      if (row === null) {
        const text = `The webhook has no delivery '${id}'. List its deliveries to see what there is.`;
        throw new CatalogError('webhook-delivery', 'not-found', text);
      }
      await db.webhook.updateMany({ where: { id: webhookId }, data: { nextAt: null } });
      const data = { state: 'pending', attempts: 0, detail: null, status: null };
      return toDelivery(await db.webhookDelivery.update({ where: { id }, data }));
    });
  }
}
