// Versions of what a route shows: GET tells it as a strong ETag and answers 304 where the caller has it already; a
// change with `if-match` is made only while it is what the caller has read (ADR 0054).
import { createHash } from 'node:crypto';
import { TidemarkError } from '@tidemark/proto';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import fastifyPlugin from 'fastify-plugin';
import { CONDITIONAL_CHANGES_MAX } from '../limits.ts';

/** One resource: the last part of its path is its id or name. */
const SINGLE = /^\/v1\/.*\/:[A-Za-z]+$/;
const CONDITIONAL = new Set(['PATCH', 'PUT', 'DELETE']);
/** What is only seen of it at the moment, and changes without anybody changing it. */
const VOLATILE: Readonly<Record<string, readonly string[]>> = {
  '/v1/storage-nodes/:storageNode': ['lastSeenAt', 'availableBytes', 'capacityBytes'],
  '/v1/repositories/:repository': ['usedBytes', 'availableBytes'],
  '/v1/volumes/:volume/checkpoints/:checkpoint': ['changedSinceBytes', 'grownBytes'],
  '/v1/tokens/:token': ['lastUsedAt'],
  '/v1/replication-rules/:rule': ['status'],
  '/v1/policies/:policy': ['nextDueAt'],
  '/v1/webhooks/:webhook': ['nextAt', 'deathsInARow'],
};

function etagOf(route: string, payload: string): string {
  const left = VOLATILE[route];
  const text = left === undefined ? payload : JSON.stringify(without(JSON.parse(payload), left));
  return `"${createHash('sha256').update(text).digest('base64url').slice(0, 27)}"`;
}

function without(body: object, names: readonly string[]): object {
  return Object.fromEntries(Object.entries(body).filter(([name]) => !names.includes(name)));
}

const tagsOf = (header: string): string[] => header.split(',').map(tag => tag.trim());
/** RFC 9110, 13.1.2: weak comparison. */
const holdsWeakly = (header: string, etag: string) =>
  tagsOf(header).some(tag => tag === '*' || tag.replace(/^W\//, '') === etag);
/** RFC 9110, 13.1.1: strong comparison, which no weak tag passes. */
const holdsStrongly = (header: string, etag: string) =>
  tagsOf(header).some(tag => tag === '*' || tag === etag);

/** Those at work, and those who wait for their turn. */
class Turns {
  #free = CONDITIONAL_CHANGES_MAX;
  readonly #waiting: (() => void)[] = [];

  async take<T>(use: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>(resolve => this.#waiting.push(resolve));
    try {
      return await use();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }
}

/** As GET tells it at this moment; null where there is none, which the handler says better. */
async function presentTag(app: FastifyInstance, request: FastifyRequest): Promise<string | null> {
  const { authorization } = request.headers;
  const url = request.url.split('?')[0] ?? request.url;
  const answer = await app.inject({
    method: 'GET',
    url,
    headers: { ...(authorization && { authorization }) },
  });
  if (answer.statusCode >= 500) {
    throw new TidemarkError('catalog-unavailable', `${url} could not be compared with if-match. Try again.`);
  }
  return answer.statusCode === 200 ? String(answer.headers.etag) : null;
}

async function requireMatch(app: FastifyInstance, request: FastifyRequest, header: string): Promise<void> {
  const present = await presentTag(app, request);
  if (present === null || holdsStrongly(header, present)) return;
  throw new TidemarkError(
    'precondition-failed',
    `${request.url.split('?')[0]} is ${present} and not ${header.slice(0, 200)}: it has changed since it was read. ` +
      'Read it again, and decide anew.',
  );
}

export const etags = fastifyPlugin(
  async app => {
    const turns = new Turns();
    app.addHook('preHandler', async request => {
      const header = request.headers['if-match'];
      const { url: route = '' } = request.routeOptions;
      if (header === undefined || request.is404 || !CONDITIONAL.has(request.method) || !SINGLE.test(route))
        return;
      let isChecked = false;
      // Within the transaction of the change, and behind a lock on its rows: what is compared is what is changed.
      request.current.onBegin(async transaction => {
        if (isChecked) return;
        isChecked = true;
        const params = request.params as Record<string, string>;
        await transaction.rowLocks.lock(Object.entries(params));
        await turns.take(() => requireMatch(app, request, header));
      });
    });
    app.addHook('onSend', async (request, reply, payload) => {
      const { url: route = '' } = request.routeOptions;
      if (reply.statusCode !== 200 || !SINGLE.test(route) || typeof payload !== 'string') return payload;
      if (
        request.method !== 'GET' &&
        (!CONDITIONAL.has(request.method) || /^\{"run":|,"run":\{/.test(payload))
      )
        return payload;
      const etag = etagOf(route, payload);
      reply.header('etag', etag);
      const known = request.headers['if-none-match'];
      if (request.method !== 'GET' || known === undefined || !holdsWeakly(known, etag)) return payload;
      reply.code(304).removeHeader('content-type');
      return '';
    });
  },
  { name: 'etags', dependencies: ['access'] },
);
