// The audit log: who asked for which change, and what came of it.
import { z } from 'zod';
import { EXAMPLE_IDS, EXAMPLE_MOMENT, idField, momentField, pageOf, pageQuery } from './common.ts';

const RESULTS = ['done', 'refused', 'failed'] as const;

const auditEntrySchema = z
  .object({
    id: z.int().min(1),
    at: momentField,
    actor: z.string().meta({ description: 'Name of the token; `local` where none is needed.' }),
    tokenId: idField.nullable(),
    action: z.string().meta({ description: 'Method and route.' }),
    subject: z.string().meta({ description: 'The path that was asked for.' }),
    runId: idField.nullable().meta({ description: 'The run that was started: it tells how that ended.' }),
    request: z.unknown().meta({ description: 'The body, without secrets; null where it is large.' }),
    result: z.enum(RESULTS).meta({
      description:
        'done: what was asked for is written, or a run of it accepted. refused: by the code below. failed: inside.',
    }),
    code: z.string().nullable(),
    remoteAddress: z.string(),
    requestId: z.string(),
  })
  .meta({
    id: 'AuditEntry',
    examples: [
      {
        id: 7,
        at: EXAMPLE_MOMENT,
        actor: 'ci',
        tokenId: 'd2c3b4a5-6f7e-4d8c-9b0a-1f2e3d4c5b09',
        action: 'DELETE /v1/volumes/:volume',
        subject: '/v1/volumes/web-01',
        runId: EXAMPLE_IDS.run,
        request: null,
        result: 'done',
        code: null,
        remoteAddress: '10.0.0.7',
        requestId: '5b3c2d1e-0f9a-4b8c-8d7e-6f5a4b3c2d1e',
      },
    ],
  });

const text = z.string().min(1).max(256).optional();

export const auditEntryQuery = pageQuery.extend({
  actor: text.meta({ description: 'Only what they asked for.' }),
  action: text.meta({ description: 'Only where method and route hold this, such as `DELETE` or `/tokens`.' }),
  subject: text.meta({ description: 'Only paths that begin with this.' }),
  runId: idField.optional().meta({ description: 'Only the request that started this run.' }),
  result: z.enum(RESULTS).optional(),
  since: momentField.optional().meta({ description: 'From that moment on.' }),
  until: momentField.optional().meta({ description: 'Before that moment.' }),
});

export const auditEntryPageSchema = pageOf(auditEntrySchema, 'AuditEntryPage');
export type AuditEntryJson = z.output<typeof auditEntrySchema>;
