// Bitmap audits of volumes.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { auditVolumeSchema } from '../../schemas/audit.ts';
import { ref } from '../../schemas/common.ts';
import { problems } from '../../schemas/problem.ts';
import { waitQuery } from '../../schemas/run.ts';
import { volumeRunSchema } from '../../schemas/volume.ts';
import { answerRun } from '../answer-run.ts';

const audit = {
  schema: {
    tags: ['Volumes'],
    summary: "Audit a volume's bitmaps",
    description:
      'Starts an audit run: a sample of what the bitmaps call unchanged since the newest backup is read from a ' +
      'frozen moment and compared with the checksums of that backup. `run.result.result` is `equal` or ' +
      '`different`; after `different` an event is told and the next backup of the volume is full.',
    params: z.object({ volume: ref('volume') }),
    querystring: waitQuery,
    body: auditVolumeSchema,
    response: {
      200: volumeRunSchema,
      202: volumeRunSchema,
      ...problems(
        'invalid-request',
        'volume-not-found',
        'volume-not-ready',
        'repository-not-found',
        'repository-not-ready',
        'storage-node-not-ready',
        'storage-node-unreachable',
        'backup-not-found',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

export const auditRoutes: FastifyPluginAsyncZod = async app => {
  app.post('/volumes/:volume/audit', audit, async (request, reply) => {
    const started = await app.audits.start(request.params.volume, request.body);
    const refresh = async () => ({ volume: await app.audits.find(started.volume.id) });
    return answerRun(app, request, reply, { started, refresh });
  });
};
