// Differences: compare, list, look at, repair.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { refField } from '../../schemas/common.ts';
import {
  differencePageSchema,
  differenceQuery,
  differenceRunSchema,
  differenceSchema,
  reconcileRunsSchema,
  reconcileSchema,
  repairSchema,
} from '../../schemas/difference.ts';
import { problems } from '../../schemas/problem.ts';
import { waitQuery } from '../../schemas/run.ts';
import { answerRun } from '../answer-run.ts';

const tags = ['Differences'];
const params = z.object({ difference: refField.meta({ description: 'Id of the difference.' }) });

const reconcile = {
  schema: {
    tags,
    summary: 'Compare storage nodes with the catalog',
    description:
      'Starts a reconcile run for the storage node, or for each that answers. What differs is listed by name, and ' +
      'repaired where nothing can be lost.',
    body: reconcileSchema,
    response: {
      202: reconcileRunsSchema,
      ...problems(
        'invalid-request',
        'storage-node-not-found',
        'storage-node-not-ready',
        'storage-node-unreachable',
      ),
    },
  },
};

const list = {
  schema: {
    tags,
    summary: 'List differences',
    description: 'In the order in which they were seen first.',
    querystring: differenceQuery,
    response: { 200: differencePageSchema, ...problems('invalid-request', 'storage-node-not-found') },
  },
};

const show = {
  schema: {
    tags,
    summary: 'Look at a difference',
    description: 'What it is, when it was seen, and what can be done about it.',
    params,
    response: { 200: differenceSchema, ...problems('invalid-request', 'difference-not-found') },
  },
};

const repair = {
  schema: {
    tags,
    summary: 'Repair a difference',
    description:
      'Starts a repair-difference run. It looks once more first, and does nothing when it is gone.',
    params,
    querystring: waitQuery,
    body: repairSchema,
    response: {
      200: differenceRunSchema,
      202: differenceRunSchema,
      ...problems(
        'invalid-request',
        'difference-not-found',
        'storage-node-not-ready',
        'storage-node-unreachable',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

export const differenceRoutes: FastifyPluginAsyncZod = async app => {
  app.post('/reconcile', reconcile, async (request, reply) => {
    reply.code(202);
    return app.differences.reconcile(request.body.storageNode);
  });

  app.get('/differences', list, request => app.differences.list(request.query));

  app.get('/differences/:difference', show, request => app.differences.get(request.params.difference));

  app.post('/differences/:difference/repair', repair, async (request, reply) => {
    const started = await app.differences.repair(request.params.difference, request.body.action);
    const refresh = async () => ({ difference: await app.differences.get(started.difference.id) });
    return answerRun(app, request, reply, { started, refresh });
  });
};
