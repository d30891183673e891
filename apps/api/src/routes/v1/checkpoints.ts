// Checkpoints of a volume: list, look at, create, change, delete, and define anew what the catalog lost.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import {
  checkpointPageSchema,
  checkpointRunSchema,
  checkpointSchema,
  createCheckpointSchema,
  newCheckpointRunSchema,
  redefineCheckpointsSchema,
  updateCheckpointSchema,
  updatedCheckpointSchema,
} from '../../schemas/checkpoint.ts';
import { pageQuery, ref } from '../../schemas/common.ts';
import { problems } from '../../schemas/problem.ts';
import { runAnswerSchema, waitQuery } from '../../schemas/run.ts';
import { answerRun } from '../answer-run.ts';

const tags = ['Checkpoints'];
const volumeParams = z.object({ volume: ref('volume') });
const params = volumeParams.extend({ checkpoint: ref('checkpoint') });

const list = {
  schema: {
    tags,
    summary: "List a volume's checkpoints",
    description:
      'Oldest first: each builds on the one before it, and the last one records. Each with the backups that hold ' +
      'its point in time, and what changed since.',
    params: volumeParams,
    querystring: pageQuery,
    response: { 200: checkpointPageSchema, ...problems('invalid-request', 'volume-not-found') },
  },
};

const show = {
  schema: {
    tags,
    summary: 'Look at a checkpoint',
    description: 'Its point in time, the backups that hold it, and what changed since.',
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

const update = {
  schema: {
    tags,
    summary: 'Rename, describe or protect a checkpoint',
    description:
      'The change is made at once. The storage node keeps a copy of name and description, which an ' +
      'update-checkpoint run brings to it. Backups keep the name that they were made under.',
    params,
    querystring: waitQuery,
    body: updateCheckpointSchema,
    response: {
      200: updatedCheckpointSchema,
      202: updatedCheckpointSchema,
      ...problems(
        'invalid-request',
        'invalid-name',
        'volume-not-found',
        'volume-not-ready',
        'checkpoint-not-found',
        'checkpoint-not-ready',
        'checkpoint-name-taken',
        'storage-node-not-ready',
        'storage-node-unreachable',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

const redefine = {
  schema: {
    tags,
    summary: 'Define checkpoints anew',
    description:
      'After the catalog was lost: starts a redefine-checkpoints run, which takes over the checkpoints that the ' +
      'storage node has and the catalog does not, all of them or none, once they were found to be a whole chain.',
    params: volumeParams,
    querystring: waitQuery,
    body: redefineCheckpointsSchema,
    response: {
      200: runAnswerSchema,
      202: runAnswerSchema,
      ...problems(
        'invalid-request',
        'invalid-name',
        'volume-not-found',
        'volume-not-ready',
        'checkpoint-invalid',
        'checkpoint-inconsistent',
        'checkpoint-name-taken',
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

  app.patch('/volumes/:volume/checkpoints/:checkpoint', update, async (request, reply) => {
    const { volume, checkpoint: reference } = request.params;
    const { run, checkpoint } = await app.checkpoints.update(volume, reference, request.body);
    if (run === null) return { run, checkpoint };
    const refresh = async () => ({ checkpoint: (await app.checkpoints.find(checkpoint)) ?? checkpoint });
    return answerRun(app, request, reply, { started: { run, checkpoint }, refresh });
  });

  app.post('/volumes/:volume/checkpoints/redefine', redefine, async (request, reply) => {
    const started = await app.checkpoints.redefine(request.params.volume, request.body);
    return answerRun(app, request, reply, { started, refresh: async () => ({}) });
  });

  app.delete('/volumes/:volume/checkpoints/:checkpoint', remove, async (request, reply) => {
    const started = await app.checkpoints.remove(request.params.volume, request.params.checkpoint);
    const refresh = async () => ({ checkpoint: await app.checkpoints.find(started.checkpoint) });
    return answerRun(app, request, reply, { started, refresh });
  });
};
