// Keeps an entry of every request that could change something: in the transaction of what it changed, so that there is
// no change without its entry, or, of what was refused and of what wrote nothing, before it is answered.
import type { AuditEntryResult, NewAuditEntry } from '@tidemark/catalog';
import type { FastifyReply, FastifyRequest } from 'fastify';
import fastifyPlugin from 'fastify-plugin';
import { NOBODY } from '../access/actor.ts';
import { auditedBody } from '../access/audit-request.ts';
import { isChange } from './access.ts';
import { REPLAYED } from './idempotency.ts';

type Outcome = Pick<NewAuditEntry, 'result' | 'code' | 'runId'>;

function entryOf(request: FastifyRequest, outcome: Outcome): NewAuditEntry {
  const { actor, method, routeOptions, url, ip: remoteAddress, id: requestId } = request;
  const subject = url.split('?')[0] ?? url;
  return {
    ...{ actor: actor.name, tokenId: actor.tokenId, remoteAddress, requestId, subject },
    action: `${method} ${routeOptions.url}`,
    request: auditedBody(request.body),
    ...outcome,
  };
}

/** Of the problem document that is about to be sent. */
function codeOf(payload: unknown): string | null {
  try {
    const { code } = JSON.parse(String(payload)) as { code?: unknown };
    return typeof code === 'string' ? code : null;
  } catch {
    return null;
  }
}

function outcomeOf({ statusCode }: FastifyReply, payload: unknown): Outcome {
  const result: AuditEntryResult = statusCode < 400 ? 'done' : statusCode < 500 ? 'refused' : 'failed';
  return { result, code: statusCode < 400 ? null : codeOf(payload), runId: null };
}

const isKept = (request: FastifyRequest) =>
  isChange(request) &&
  request.routeOptions.config.changesNothing !== true &&
  !request.is404 &&
  request.current !== undefined;

export const auditLog = fastifyPlugin(
  async app => {
    app.addHook('preValidation', async request => {
      if (!isKept(request)) return;
      request.current.onCommit(async (transaction, runIds) => {
        if (request.current.hasWritten) return;
        const done = { result: 'done', code: null, runId: runIds[0] ?? null } as const;
        await transaction.auditLog.add(entryOf(request, done));
      });
    });
    app.addHook('onSend', async (request, reply, payload) => {
      if (!isKept(request) || request.current.hasWritten || reply.hasHeader(REPLAYED)) return;
      const outcome = outcomeOf(reply, payload);
      // Who has no name could fill the catalog: of these the service's own log tells.
      if (request.actor === NOBODY) {
        const { ip: remoteAddress, method, routeOptions } = request;
        request.log.info({ ...outcome, remoteAddress, method, route: routeOptions.url }, 'nothing was done');
        return;
      }
      try {
        await app.catalog.auditLog.add(entryOf(request, outcome));
      } catch (error) {
        // Nothing was changed; a refusal that cannot be kept is still a refusal.
        request.log.warn({ err: error }, 'audit entry not kept');
      }
    });
  },
  { name: 'audit-log', dependencies: ['access'] },
);
