// Checkpoints of a volume: list, look at, create, delete.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import {
  checkpointPageSchema,
  checkpointRunSchema,
  checkpointSchema,
  createCheckpointSchema,
  newCheckpointRunSchema,
} from '../../schemas/checkpoint.ts';
import { pageQuery, ref } from '../../schemas/common.ts';
import { problems } from '../../schemas/problem.ts';
import { waitQuery } from '../../schemas/run.ts';
import { answerRun } from '../answer-run.ts';

const tags = ['Checkpoints'];
const volumeParams = z.object({ volume: ref('volume') });
const params = volumeParams.extend({ checkpoint: ref('checkpoint') });

const list = {
  schema: {
    tags,
    summary: "List a volume's checkpoints",
    description: 'Oldest first, each with the backups that hold its point in time.',
    params: volumeParams,
    querystring: pageQuery,
    response: { 200: checkpointPageSchema, ...problems('invalid-request', 'volume-not-found') },
  },
};

const show = {
  schema: {
    tags,
    summary: 'Look at a checkpoint',
    description: 'Its point in time, and the backups that hold it.',
    params,
    response: {
      200: checkpointSchema,
      ...problems('invalid-request', 'volume-not-found', 'checkpoint-not-found'),
    },
  },
};

const create = {
  schema: {
    tags,
    summary: 'Take a checkpoint',
    description:
      'Starts a create-checkpoint run: from its point in time on, changes are recorded for later backups.',
    params: volumeParams,
    querystring: waitQuery,
    body: createCheckpointSchema,
    response: {
      201: newCheckpointRunSchema,
      202: newCheckpointRunSchema,
      ...problems(
        'invalid-request',
        'invalid-name',
        'volume-not-found',
        'volume-not-ready',
        'storage-node-not-ready',
        'storage-node-unreachable',
        'checkpoint-name-taken',
        'checkpoint-limit',
        'checkpoint-pinned',
        'checkpoint-in-use',
        'checkpoint-not-ready',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

const remove = {
  schema: {
    tags,
    summary: 'Delete a checkpoint',
    description: 'Starts a delete-checkpoint run. Its backups stay; no other increment changes by a bit.',
    params,
    querystring: waitQuery,
    response: {
      200: checkpointRunSchema,
      202: checkpointRunSchema,
      ...problems(
        'invalid-request',
        'volume-not-found',
        'volume-not-ready',
        'checkpoint-not-found',
        'checkpoint-not-ready',
        'checkpoint-in-use',
        'checkpoint-pinned',
        'storage-node-not-ready',
        'storage-node-unreachable',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

export const checkpointRoutes: FastifyPluginAsyncZod = async app => {
  app.get('/volumes/:volume/checkpoints', list, request =>
    app.checkpoints.list(request.params.volume, request.query),
  );

  app.get('/volumes/:volume/checkpoints/:checkpoint', show, request =>
    app.checkpoints.get(request.params.volume, request.params.checkpoint),
  );

  app.post('/volumes/:volume/checkpoints', create, async (request, reply) => {
    const started = await app.checkpoints.create(request.params.volume, request.body);
    const { dropped } = started;
    const { id, volumeId } = started.checkpoint;
    const refresh = async () => ({ checkpoint: await app.checkpoints.find({ volumeId, id }), dropped });
    const made = `/v1/volumes/${volumeId}/checkpoints/${id}`;
    return answerRun(app, request, reply, { started, refresh, made });
  });

  app.delete('/volumes/:volume/checkpoints/:checkpoint', remove, async (request, reply) => {
    const started = await app.checkpoints.remove(request.params.volume, request.params.checkpoint);
    const refresh = async () => ({ checkpoint: await app.checkpoints.find(started.checkpoint) });
    return answerRun(app, request, reply, { started, refresh });
  });
};
