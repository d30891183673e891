// Where an installation sends the ends of its runs: takes what is signed as it should be, and now and then answers that
// it cannot.
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { isSignedBy, SIGNATURE_HEADER } from '@tidemark/proto';
import type { SeededRandom } from '../../packages/engine/src/testing/seeded-random.ts';

export const SENT_KINDS = ['run-succeeded', 'run-failed', 'run-cancelled'];
const REFUSAL_CHANCE = 0.03;
const AGE_SECONDS_MAX = 300;

export class WebhookSink {
  readonly faults: string[] = [];
  /** Ids of events. */
  readonly #taken = new Set<number>();
  readonly #random: SeededRandom;
  readonly #server = createServer((request, response) => void this.#take(request, response));
  #secret = '';
  #last = 0;

  constructor(random: SeededRandom) {
    this.#random = random;
  }

  /** Resolves with the address to be sent to. */
  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/events`;
  }

  /** As it was told when the webhook was made. */
  expectSecret(secret: string): void {
    this.#secret = secret;
  }

  hasTaken(eventId: number): boolean {
    return this.#taken.has(eventId);
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // A worker that is killed leaves half a body, or none.
    const body = await text(request).catch(() => undefined);
    if (body === undefined) return;
    const isRefused = this.#random.chance(REFUSAL_CHANCE);
    if (!isRefused) this.#note(body, String(request.headers[SIGNATURE_HEADER]));
    response.writeHead(isRefused ? 503 : 204).end();
  }

  #note(body: string, signature: string): void {
    const nowSeconds = Date.now() / 1000;
    const signed = { signature, secret: this.#secret, nowSeconds, ageSecondsMax: AGE_SECONDS_MAX };
    if (!isSignedBy(body, signed)) this.faults.push(`a delivery is not signed as it should be: ${body}`);
    const { event } = JSON.parse(body) as { event: { id: number } | null };
    if (event === null || this.#taken.has(event.id)) return;
    if (event.id < this.#last) this.faults.push(`event ${event.id} was sent after ${this.#last}`);
    this.#taken.add(event.id);
    this.#last = event.id;
  }
}
