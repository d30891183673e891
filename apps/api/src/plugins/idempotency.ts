// Carries a POST with the header `idempotency-key` out once, however often it is sent and to whichever api: what it
// writes is committed together with the mark that it did (ADR 0054).
import type { AcceptedAnswer, JsonObject } from '@tidemark/catalog';
import { TidemarkError } from '@tidemark/proto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import fastifyPlugin from 'fastify-plugin';
import { IdempotentRequest, type KeptAnswer } from '../access/idempotent-request.ts';
import { IDEMPOTENCY_ANSWER_MAX, IDEMPOTENCY_SWEEP_MS } from '../limits.ts';
import { callerGone } from '../routes/answer-run.ts';
import { PROBLEM_TYPE } from '../schemas/problem.ts';
import type { WaitQuery } from '../schemas/run.ts';

declare module 'fastify' {
  interface FastifyRequest {
    idempotent: IdempotentRequest | null;
  }
}

const HEADER = 'idempotency-key';
/** Of an answer that was given before: nothing was done for it. */
export const REPLAYED = 'idempotency-replayed';
const KEY = /^[\x21-\x7e]{1,255}$/;
/** Of one path these say how long to wait for the answer, not what is asked for. */
const WAITING = ['wait', 'waitTimeoutMs'];

function keyOf(request: FastifyRequest): string | null {
  const key = request.headers[HEADER];
  if (request.method !== 'POST' || key === undefined || request.is404) return null;
  if (typeof key === 'string' && KEY.test(key)) return key;
  throw new TidemarkError(
    'invalid-request',
    `The header ${HEADER} must be 1 to 255 printable ASCII characters without spaces, such as a UUID.`,
  );
}

function contentOf({ method, url, query, body }: FastifyRequest): [string, unknown] {
  const asked = Object.entries(query as object).filter(([name]) => !WAITING.includes(name));
  return [`${method} ${url.split('?')[0]}`, [asked.sort(), body ?? null]];
}

/** As it was answered then; the run of a call that was never answered is waited for as this caller asks. */
async function replay(
  app: FastifyInstance,
  request: FastifyRequest,
  reply: FastifyReply,
  kept: KeptAnswer,
): Promise<FastifyReply> {
  const { status, body, location, runId } = kept;
  if (body === null) {
    const text =
      'The request with this idempotency key was carried out, and its answer was not kept, or was lost with the ' +
      `service. Look for what it has made${runId === null ? '' : `, with GET /v1/runs/${runId}`}; do not send it anew.`;
    throw new TidemarkError('idempotency-answer-lost', text);
  }
  reply.header(REPLAYED, 'true');
  if (location !== null) reply.header('location', location);
  if (status !== null && status >= 400) reply.type(PROBLEM_TYPE);
  if (status !== null || runId === null) return reply.code(status ?? 200).send(body);
  const query = request.query as Partial<WaitQuery>;
  const run = await app.runs.get(runId);
  const waits = query.wait !== undefined && query.wait !== 'accepted';
  const seen = waits ? await app.runs.waitFor(run, query as WaitQuery, callerGone(reply)) : run;
  return reply.code(202).send({ ...body, run: seen });
}

/** Null: not to be kept. */
function keepable(request: FastifyRequest, reply: FastifyReply, payload: unknown): AcceptedAnswer | null {
  const location = (reply.getHeader('location') as string | undefined) ?? null;
  if (request.routeOptions.config.secretAnswer) return { body: null, location };
  if (typeof payload !== 'string') return null;
  if (payload.length > IDEMPOTENCY_ANSWER_MAX) return { body: null, location };
  return { body: JSON.parse(payload) as JsonObject, location };
}

export const idempotency = fastifyPlugin(
  async app => {
    app.decorateRequest('idempotent', null);
    app.addHook('preHandler', async (request, reply) => {
      const key = keyOf(request);
      if (key === null) return;
      const owner = request.actor.tokenId ?? 'open';
      const one = new IdempotentRequest({ catalog: app.catalog, owner, key, content: contentOf(request) });
      const kept = await one.claim(callerGone(reply));
      if (kept !== null) return replay(app, request, reply, kept);
      request.idempotent = one;
      const { current } = request;
      current.onCommit(async (transaction, runIds) => {
        const isSecret = request.routeOptions.config.secretAnswer === true;
        const written = { runId: runIds[0] ?? null, accepted: isSecret ? null : current.accepted };
        await one.commit(transaction, written);
      });
    });
    app.addHook('onSend', async (request, reply, payload) => {
      const { idempotent, current } = request;
      if (idempotent === null) return;
      request.idempotent = null;
      // A refusal that wrote nothing may succeed when it is sent again; a wait that was too short has an end.
      const isAnswer = reply.statusCode < (current.hasWritten ? 500 : 300);
      const kept = isAnswer ? keepable(request, reply, payload) : null;
      try {
        await idempotent.end(kept && { ...kept, status: reply.statusCode }, current.hasWritten);
      } catch (error) {
        // What is written is marked as such: sent again, it is not done again.
        request.log.warn({ err: error }, 'answer not kept');
      }
    });
    const sweep = setInterval(() => {
      app.catalog.idempotency.deleteExpired().catch(() => {});
    }, IDEMPOTENCY_SWEEP_MS);
    sweep.unref();
    app.addHook('onClose', async () => clearInterval(sweep));
  },
  { name: 'idempotency', dependencies: ['access'] },
);
