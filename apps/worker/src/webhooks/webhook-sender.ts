// Serves webhooks: makes deliveries of new events and sends them in their order. The next one waits until the one
// before was taken, or is dead. Any number of workers share the work, one at a time for each webhook.
import { type Catalog, EventListener, type ServedWebhook, type WebhookDelivery } from '@tidemark/catalog';
import { SIGNATURE_HEADER, signWebhook, TidemarkError, type WebhookSecrets } from '@tidemark/proto';
import type { Logger } from 'pino';
import { WEBHOOK_LIMITS, type WebhookLimits } from '../limits.ts';
import { postWebhook } from './post-webhook.ts';

export interface WebhookSenderOptions {
  readonly catalog: Catalog;
  /** Where commits of events are heard of. */
  readonly databaseUrl: string;
  readonly owner: string;
  readonly secrets: WebhookSecrets;
  readonly log: Logger;
  readonly now: () => number;
  /** From 0 to below 1. */
  readonly random: () => number;
  readonly limits?: WebhookLimits;
  /** Told of each attempt, for whoever counts them. */
  readonly observer?: { attempted(delivered: boolean): void };
}

export class WebhookSender {
  readonly #options: WebhookSenderOptions;
  readonly #limits: WebhookLimits;
  readonly #listener: EventListener;
  readonly #stop = new AbortController();
  /** Ends attempts under way. */
  readonly #cut = new AbortController();
  readonly #serving = new Map<string, Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> | undefined;
  #isNews = false;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #failing = false;
  #hasResealed = false;

  constructor(options: WebhookSenderOptions) {
    this.#options = options;
    this.#limits = options.limits ?? WEBHOOK_LIMITS;
    this.#listener = new EventListener(options.databaseUrl, () => this.#look());
  }

  start(): void {
    this.#listener.start();
    this.#look();
  }

  /**
   * Afterwards nothing is being sent. Answers to what is under way are waited for, but not for long; what is cut off is
   * sent again by whoever comes next.
   */
  async close(): Promise<void> {
    this.#stop.abort();
    const cut = setTimeout(() => this.#cut.abort(), this.#limits.closeMs);
    clearTimeout(this.#timer);
    await this.#listener.close();
    await this.#looking;
    await Promise.all(this.#serving.values());
    clearTimeout(cut);
  }

  #look(): void {
    this.#isNews = true;
    if (this.#stop.signal.aborted || this.#looking !== undefined) return;
    clearTimeout(this.#timer);
    const earlyMs = this.#lookedAt + this.#limits.wakeMs - performance.now();
    if (earlyMs > 0) {
      this.#timer = setTimeout(() => this.#look(), earlyMs);
      return;
    }
    this.#lookedAt = performance.now();
    this.#looking = this.#claim().finally(() => {
      this.#looking = undefined;
      if (this.#stop.signal.aborted) return;
      this.#timer = setTimeout(() => this.#look(), this.#isNews ? this.#limits.wakeMs : this.#limits.lookMs);
    });
  }

  async #claim(): Promise<void> {
    this.#isNews = false;
    const { catalog, log } = this.#options;
    try {
      if (!this.#hasResealed) await this.#reseal();
      const room = this.#limits.atOnce - this.#serving.size;
      const due = room > 0 ? await catalog.webhookDeliveries.claimDue(this.#rules, room) : [];
      for (const webhook of due) this.#begin(webhook);
      if (this.#failing) log.info('works again');
      this.#failing = false;
    } catch (error) {
      if (!this.#failing) log.error({ err: error }, 'failed; will try again');
      this.#failing = true;
    }
  }

  /** Once: from here on the catalog has no secret in plain text, and none that is sealed with a former key. */
  async #reseal(): Promise<void> {
    const { catalog, log, secrets } = this.#options;
    const resealed = await catalog.webhookDeliveries.resealSecrets(webhook => {
      try {
        return secrets.resealed(webhook, webhook.sealedSecret);
      } catch (error) {
        log.error({ err: error, webhook: webhook.name }, 'secret of webhook not taken over');
        return null;
      }
    });
    this.#hasResealed = true;
    if (resealed > 0) log.info({ resealed }, 'secrets of webhooks sealed with the key in use');
  }

  /** Null: it cannot be read here, which the webhook's next delivery tells. */
  async #secretOf(webhook: ServedWebhook): Promise<string | null> {
    const { catalog, log, owner, secrets } = this.#options;
    try {
      return secrets.open(webhook, webhook.sealedSecret);
    } catch (error) {
      if (!(error instanceof TidemarkError)) throw error;
      log.error({ code: error.code, detail: error.message, webhook: webhook.name }, 'webhook not served');
      const { secretlessMs: delayMs } = this.#limits;
      await catalog.webhookDeliveries.hold(webhook.id, { owner, delayMs, detail: error.message });
      return null;
    }
  }

  #begin(webhook: ServedWebhook): void {
    const served = this.#serve(webhook)
      .catch(error => this.#options.log.warn({ err: error, webhook: webhook.name }, 'webhook not served'))
      .finally(() => this.#serving.delete(webhook.id));
    this.#serving.set(webhook.id, served);
  }

  async #serve(webhook: ServedWebhook): Promise<void> {
    const { webhookDeliveries } = this.#options.catalog;
    const { owner } = this.#options;
    try {
      // A share of what waits; then another worker, or another webhook, has its turn.
      for (let sent = 0; sent < this.#limits.sendsInARow && !this.#stop.signal.aborted; sent++) {
        const { readAtOnce: limit, pendingMax } = this.#limits;
        await webhookDeliveries.fanOut(webhook.id, { owner, limit, pendingMax });
        const delivery = await webhookDeliveries.nextPending(webhook.id);
        const secret = delivery && (await this.#secretOf(webhook));
        if (delivery === null || secret === null) return;
        if (!(await this.#send({ ...webhook, secret }, delivery))) return;
      }
    } catch (error) {
      if (!this.#stop.signal.aborted) throw error;
    } finally {
      await webhookDeliveries.release(webhook.id, owner);
    }
  }

  /** Whether the next one may follow. */
  async #send(webhook: ServedWebhook & { secret: string }, delivery: WebhookDelivery): Promise<boolean> {
    const { catalog, log, now } = this.#options;
    const seconds = Math.floor(now() / 1000);
    const { status, fault } = await postWebhook({
      url: webhook.url,
      body: delivery.body,
      headers: {
        'content-type': 'application/json',
        'user-agent': 'tidemark',
        'tidemark-event': delivery.kind,
        'tidemark-delivery': delivery.id,
        [SIGNATURE_HEADER]: signWebhook(delivery.body, { secret: webhook.secret, seconds }),
      },
      timeoutMs: this.#limits.answerMs,
      signal: this.#cut.signal,
    });
    const attempt = { delivered: fault === null, status, detail: fault, delayMs: this.#delayMs(delivery) };
    const kept = await catalog.webhookDeliveries.record(delivery, attempt, this.#rules);
    this.#options.observer?.attempted(fault === null);
    const about = { webhook: webhook.name, deliveryId: delivery.id, attempt: delivery.attempts + 1 };
    if (fault === null) log.debug({ ...about, status }, 'webhook delivered');
    else log.warn({ ...about, detail: fault }, 'webhook delivery failed');
    const isOver = fault === null || delivery.attempts + 1 >= this.#limits.attemptsMax;
    return kept && isOver;
  }

  /** It doubles; from a half to one and a half of it, at random, so that not all come back at once. */
  #delayMs({ attempts }: WebhookDelivery): number {
    const { delayMs, delayMaxMs } = this.#limits;
    return Math.min(delayMs * 2 ** attempts, delayMaxMs) * (0.5 + this.#options.random());
  }

  get #rules() {
    const { leaseMs, attemptsMax, deathsMax, delayMaxMs } = this.#limits;
    return { owner: this.#options.owner, leaseMs, attemptsMax, deathsMax, delayMaxMs: delayMaxMs * 1.5 };
  }
}
