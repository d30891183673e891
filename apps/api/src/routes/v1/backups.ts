// Backups: list, look at, make.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import {
  backupPageSchema,
  backupQuery,
  backupRunSchema,
  backupSchema,
  createBackupSchema,
} from '../../schemas/backup.ts';
import { idField } from '../../schemas/common.ts';
import { problems } from '../../schemas/problem.ts';
import { waitQuery } from '../../schemas/run.ts';
import { answerRun } from '../answer-run.ts';

const tags = ['Backups'];

const CREATE_DESCRIPTION = `Starts a backup run. The new checkpoint and the backup hold the same instant,
which lies between the request and the answer of \`wait=checkpoint\`. An incremental backup whose base cannot
be trusted any more becomes a full one, and \`reason\` says so.`;

const list = {
  schema: {
    tags,
    summary: 'List backups',
    description: 'Newest first, of all volumes and repositories or of those that are named.',
    querystring: backupQuery,
    response: {
      200: backupPageSchema,
      ...problems('invalid-request', 'volume-not-found', 'repository-not-found'),
    },
  },
};

const show = {
  schema: {
    tags,
    summary: 'Look at a backup',
    description: 'Its place in the chain, its sizes, and why it is full or incremental.',
    params: z.object({ backup: idField }),
    response: { 200: backupSchema, ...problems('invalid-request', 'backup-not-found') },
  },
};

const create = {
  schema: {
    tags,
    summary: 'Make a backup',
    description: CREATE_DESCRIPTION,
    querystring: waitQuery,
    body: createBackupSchema,
    response: {
      201: backupRunSchema,
      202: backupRunSchema,
      ...problems(
        'invalid-request',
        'invalid-name',
        'volume-not-found',
        'volume-not-ready',
        'repository-not-found',
        'repository-not-ready',
        'storage-node-not-ready',
        'storage-node-unreachable',
        'checkpoint-name-taken',
        'checkpoint-not-found',
        'checkpoint-not-ready',
        'checkpoint-limit',
        'checkpoint-pinned',
        'checkpoint-in-use',
        'backup-not-found',
        'repository-full',
        'io-error',
        'job-interrupted',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

export const backupRoutes: FastifyPluginAsyncZod = async app => {
  app.get('/backups', list, request => app.backups.list(request.query));

  app.get('/backups/:backup', show, request => app.backups.get(request.params.backup));

  app.post('/backups', create, async (request, reply) => {
    const started = await app.backups.create(request.body);
    const { id } = started.backup;
    const { dropped } = started;
    const refresh = async () => ({ backup: await app.backups.find(id), dropped });
    return answerRun(app, request, reply, { started, refresh, made: `/v1/backups/${id}` });
  });
};
