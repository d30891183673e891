// Verifying a backup.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { verifyBackupSchema, verifyRunSchema } from '../../schemas/backup.ts';
import { idField } from '../../schemas/common.ts';
import { problems } from '../../schemas/problem.ts';
import { waitQuery } from '../../schemas/run.ts';
import { answerRun } from '../answer-run.ts';

const DESCRIPTION = `Starts a verify run: reads the backup without restoring it, compares all data with its
checksums, and checks chain and images. That it is damaged is the run's \`result\`, with the ranges, not a failure
of the run; the next backup on it sends these ranges again.`;

const verify = {
  schema: {
    tags: ['Backups'],
    summary: 'Verify a backup',
    description: DESCRIPTION,
    params: z.object({ backup: idField }),
    querystring: waitQuery,
    body: verifyBackupSchema,
    response: {
      200: verifyRunSchema,
      202: verifyRunSchema,
      ...problems(
        'invalid-request',
        'backup-not-found',
        'backup-not-usable',
        'repository-not-found',
        'repository-not-ready',
        'storage-node-not-ready',
        'storage-node-unreachable',
        'job-interrupted',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

export const verificationRoutes: FastifyPluginAsyncZod = async app => {
  app.post('/backups/:backup/verify', verify, async (request, reply) => {
    const { backup } = request.params;
    const started = await app.verifications.start(backup, request.body);
    const refresh = async () => ({ backup: await app.backups.find(backup) });
    return answerRun<{ backup: Awaited<ReturnType<typeof app.backups.find>> }>(app, request, reply, {
      started,
      refresh,
    });
  });
};
