// The audit log: who asked for which change.
import type { AuditEntry } from '@tidemark/catalog';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { momentOf } from '../../filters.ts';
import { iso } from '../../moments.ts';
import { type AuditEntryJson, auditEntryPageSchema, auditEntryQuery } from '../../schemas/audit-entry.ts';
import { problems } from '../../schemas/problem.ts';

const list = {
  config: { role: 'admin' },
  schema: {
    tags: ['Access'],
    summary: 'List the audit log',
    description:
      'Newest first: every request that could change something, who sent it, and whether it was done. Entries are ' +
      'never changed or deleted.',
    querystring: auditEntryQuery,
    response: { 200: auditEntryPageSchema, ...problems('invalid-request') },
  },
} as const;

const toEntryJson = (entry: AuditEntry): AuditEntryJson => ({ ...entry, at: iso(entry.at) });

export const auditLogRoutes: FastifyPluginAsyncZod = async app => {
  app.get('/audit', list, async request => {
    const { since, until, ...rest } = request.query;
    const filter = { ...rest, since: momentOf(since), until: momentOf(until) };
    const { items, nextCursor } = await app.catalog.auditLog.list(filter);
    return { items: items.map(toEntryJson), nextCursor };
  });
};
