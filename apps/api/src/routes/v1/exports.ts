// Exports: open one. It is looked at, finished and cancelled as the run that it is.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { createExportSchema, exportRunSchema } from '../../schemas/export.ts';
import { problems } from '../../schemas/problem.ts';
import { waitQuery } from '../../schemas/run.ts';
import { answerRun } from '../answer-run.ts';

const DESCRIPTION = `Starts an export run: a moment of the volume is frozen and can be read over NBD at the
\`uri\` of \`run.result\`, under a name that nobody can guess, with a metadata context
\`qemu:dirty-bitmap:CHECKPOINT\` for each checkpoint: what changed from it to that moment. The run goes on until
\`POST /v1/runs/RUN/finish\`; then the checkpoint, if one was asked for, stays as a base for later. Any other end
(cancel, its time being over, a moment that is lost) leaves nothing. \`wait=checkpoint\` answers when the export is
there.`;

const create = {
  schema: {
    tags: ['Exports'],
    summary: 'Export a frozen moment of a volume',
    description: DESCRIPTION,
    querystring: waitQuery,
    body: createExportSchema,
    response: {
      200: exportRunSchema,
      202: exportRunSchema,
      ...problems(
        'invalid-request',
        'invalid-name',
        'volume-not-found',
        'volume-not-ready',
        'volume-busy',
        'storage-node-not-ready',
        'storage-node-unreachable',
        'storage-full',
        'checkpoint-name-taken',
        'checkpoint-not-found',
        'checkpoint-not-ready',
        'checkpoint-inconsistent',
        'checkpoint-limit',
        'checkpoint-pinned',
        'checkpoint-in-use',
        'moment-lost',
        'export-expired',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

export const exportRoutes: FastifyPluginAsyncZod = async app => {
  app.post('/exports', create, async (request, reply) => {
    const started = await app.momentExports.create(request.body);
    const { dropped } = started;
    return answerRun(app, request, reply, { started, refresh: async () => ({ dropped }) });
  });
};
