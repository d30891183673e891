// Retention: prune a repository, let a backup go, protect one.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { backupSchema } from '../../schemas/backup.ts';
import { idField } from '../../schemas/common.ts';
import { problems } from '../../schemas/problem.ts';
import {
  deletedBackupSchema,
  pruneAnswerSchema,
  pruneSchema,
  updateBackupSchema,
} from '../../schemas/retention.ts';
import { waitQuery } from '../../schemas/run.ts';
import { answerRun } from '../answer-run.ts';

const params = z.object({ backup: idField });

const prune = {
  schema: {
    tags: ['Retention'],
    summary: 'Prune a repository by rules',
    description:
      'Tells for every backup and checkpoint what keeps it, or that it goes, and starts a prune run unless it is a ' +
      'dry run. What goes is hidden at once. It leaves its chain by being merged into the backup that stands on it; ' +
      'with several, or while somebody reads it, it stays hidden until a later prune can. Kept backups never lose ' +
      'what they need. Checkpoints follow that were made with a backup and have none any more.',
    querystring: waitQuery,
    body: pruneSchema,
    response: {
      200: pruneAnswerSchema,
      202: pruneAnswerSchema,
      ...problems(
        'invalid-request',
        'repository-not-found',
        'repository-not-ready',
        'repository-full',
        'volume-not-found',
        'storage-node-not-ready',
        'storage-node-unreachable',
        'image-invalid',
        'io-error',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

const remove = {
  schema: {
    tags: ['Retention'],
    summary: 'Let a backup go',
    description: 'Starts a prune run for this one, and for those that earlier ones had to leave hidden.',
    params,
    querystring: waitQuery,
    response: {
      200: deletedBackupSchema,
      202: deletedBackupSchema,
      ...problems(
        'invalid-request',
        'backup-not-found',
        'backup-not-usable',
        'backup-pinned',
        'backup-in-use',
        'repository-not-ready',
        'repository-full',
        'storage-node-not-ready',
        'storage-node-unreachable',
        'image-invalid',
        'io-error',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

const update = {
  schema: {
    tags: ['Retention'],
    summary: 'Protect or describe a backup',
    description: 'Until `pinnedUntil` no rule and no request removes it.',
    params,
    body: updateBackupSchema,
    response: { 200: backupSchema, ...problems('invalid-request', 'backup-not-found', 'backup-not-usable') },
  },
};

export const retentionRoutes: FastifyPluginAsyncZod = async app => {
  app.post('/prune', prune, async (request, reply) => {
    if (request.body.dryRun) return { run: null, ...(await app.retention.plan(request.body)) };
    const started = await app.retention.prune(request.body);
    const { run: _, ...planned } = started;
    return answerRun(app, request, reply, { started, refresh: async () => planned });
  });

  app.delete('/backups/:backup', remove, async (request, reply) => {
    const started = await app.retention.delete(request.params.backup);
    const refresh = async () => ({ backup: await app.backups.find(request.params.backup) });
    return answerRun<{ backup: typeof started.backup | null }>(app, request, reply, { started, refresh });
  });

  app.patch('/backups/:backup', update, request => app.retention.update(request.params.backup, request.body));
};
