// Restores: bring a backup back.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { problems } from '../../schemas/problem.ts';
import { createRestoreSchema, restoreRunSchema } from '../../schemas/restore.ts';
import { waitQuery } from '../../schemas/run.ts';
import { answerRun } from '../answer-run.ts';

const CREATE_DESCRIPTION = `Starts a restore run, to a new volume or to a plain file on a storage node; the
file's path is in \`run.result.filePath\` when it is done. When the run fails, what it had made is gone.`;

const create = {
  schema: {
    tags: ['Restores'],
    summary: 'Restore a backup',
    description: CREATE_DESCRIPTION,
    querystring: waitQuery,
    body: createRestoreSchema,
    response: {
      200: restoreRunSchema,
      201: restoreRunSchema,
      202: restoreRunSchema,
      ...problems(
        'invalid-request',
        'invalid-name',
        'backup-not-found',
        'backup-not-usable',
        'volume-not-found',
        'checkpoint-not-found',
        'storage-node-not-found',
        'storage-node-not-ready',
        'storage-node-unreachable',
        'volume-name-taken',
        'file-exists',
        'storage-full',
        'image-invalid',
        'io-error',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

export const restoreRoutes: FastifyPluginAsyncZod = async app => {
  app.post('/restores', create, async (request, reply) => {
    const started = await app.restores.create(request.body);
    const { volume } = started;
    if (volume === null) {
      return answerRun(app, request, reply, { started, refresh: async () => ({ volume: null }) });
    }
    const refresh = async () => ({ volume: await app.volumes.find(volume.id) });
    return answerRun(app, request, reply, { started, refresh, made: `/v1/volumes/${volume.id}` });
  });
};
