// Restores: bring a backup back.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { problems } from '../../schemas/problem.ts';
import { createRestoreSchema, restoreRunSchema } from '../../schemas/restore.ts';
import { waitQuery } from '../../schemas/run.ts';
import { answerRun } from '../answer-run.ts';

const CREATE_DESCRIPTION = `Starts a restore run. To a new volume, or to a plain file on a storage node, whose path
is in \`run.result.filePath\` when it is done; when the run fails, what it had made is gone. With \`inPlace\` over a
volume, of which only blocks that differ are sent; a run that fails or is cancelled leaves a mixture of both contents
there: run it again. With \`instant\` to a volume that is ready at once (\`wait=checkpoint\` answers then), reads from
the backup, and pulls the rest behind; the run goes on until it stands alone, and holds the backup until then. A new
volume begins with the backup's checkpoint, so that its first backup in the same repository can be an increment.`;

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
        'storage-node-cordoned',
        'storage-node-lost',
        'volume-name-taken',
        'volume-busy',
        'volume-not-ready',
        'backup-damaged',
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
    const { volume, isNew, run } = started;
    const refresh = async () => ({ volume: volume && (await app.volumes.find(volume.id)) });
    const made = isNew && volume !== null ? { made: `/v1/volumes/${volume.id}` } : {};
    return answerRun(app, request, reply, { started: { run, volume }, refresh, ...made });
  });
};
