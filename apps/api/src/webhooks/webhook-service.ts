// Webhooks: kept here, served by workers.
import { randomBytes, randomUUID } from 'node:crypto';
import { type Catalog, deliveryBody, type Webhook, type WebhookDelivery } from '@tidemark/catalog';
import { parseSelector, type WebhookSecrets } from '@tidemark/proto';
import type { z } from 'zod';
import { WEBHOOK_SECRET_BYTES } from '../limits.ts';
import { iso, isoOrNull } from '../moments.ts';
import type {
  CreateWebhook,
  DeliveryJson,
  deliveryQuery,
  UpdateWebhook,
  WebhookJson,
  webhookQuery,
} from '../schemas/webhook.ts';

function toWebhookJson(webhook: Webhook): WebhookJson {
  return { ...webhook, nextAt: isoOrNull(webhook.nextAt), createdAt: iso(webhook.createdAt) };
}

function toDeliveryJson({ webhookId: _, ...delivery }: WebhookDelivery): DeliveryJson {
  return {
    ...delivery,
    attemptedAt: isoOrNull(delivery.attemptedAt),
    createdAt: iso(delivery.createdAt),
  };
}

const newSecret = () => `whsec_${randomBytes(WEBHOOK_SECRET_BYTES).toString('base64url')}`;

export class WebhookService {
  readonly #catalog: Catalog;
  readonly #secrets: WebhookSecrets;

  constructor(catalog: Catalog, secrets: WebhookSecrets) {
    this.#catalog = catalog;
    this.#secrets = secrets;
  }

  /** Rejects `invalid-request` for a selector that cannot be read, `webhook-key-missing`. */
  async create(wanted: CreateWebhook): Promise<{ webhook: WebhookJson; secret: string }> {
    parseSelector(wanted.selector);
    const secret = newSecret();
    const owner = { id: randomUUID(), name: wanted.name };
    const sealedSecret = this.#secrets.seal(owner, secret);
    const webhook = await this.#catalog.webhooks.create({ ...wanted, ...owner, sealedSecret });
    return { webhook: toWebhookJson(webhook), secret };
  }

  async list(page: z.output<typeof webhookQuery>) {
    const { items, nextCursor } = await this.#catalog.webhooks.list(page);
    return { items: items.map(toWebhookJson), nextCursor };
  }

  async get(ref: string): Promise<WebhookJson> {
    return toWebhookJson(await this.#catalog.webhooks.get(ref));
  }

  async update(ref: string, change: UpdateWebhook): Promise<WebhookJson> {
    parseSelector(change.selector ?? '');
    const { id } = await this.#catalog.webhooks.get(ref);
    return toWebhookJson(await this.#catalog.webhooks.update(id, change));
  }

  /** What is sent from now on is signed with the new one alone. Rejects `webhook-key-missing`. */
  async renewSecret(ref: string): Promise<{ webhook: WebhookJson; secret: string }> {
    const secret = newSecret();
    const { id, name } = await this.#catalog.webhooks.get(ref);
    const sealedSecret = this.#secrets.seal({ id, name }, secret);
    return { webhook: toWebhookJson(await this.#catalog.webhooks.update(id, { sealedSecret })), secret };
  }

  async delete(ref: string): Promise<WebhookJson> {
    return toWebhookJson(await this.#catalog.webhooks.delete(ref));
  }

  /** Sent after what waits already. */
  async ping(ref: string): Promise<DeliveryJson> {
    const webhook = await this.#catalog.webhooks.get(ref);
    const id = randomUUID();
    const body = deliveryBody({ id, webhook: webhook.name, kind: 'ping', more: {} });
    return toDeliveryJson(await this.#catalog.webhooks.addPing({ id, webhookId: webhook.id, body }));
  }

  async listDeliveries(ref: string, query: z.output<typeof deliveryQuery>) {
    const { id } = await this.#catalog.webhooks.get(ref);
    const { items, nextCursor } = await this.#catalog.webhooks.listDeliveries(id, query);
    return { items: items.map(toDeliveryJson), nextCursor };
  }

  async redeliver(ref: string, deliveryId: string): Promise<DeliveryJson> {
    const { id } = await this.#catalog.webhooks.get(ref);
    return toDeliveryJson(await this.#catalog.webhooks.redeliver(id, deliveryId));
  }
}
