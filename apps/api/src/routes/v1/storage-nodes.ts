// Storage nodes: list, look at, add, change, remove.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { ref } from '../../schemas/common.ts';
import { problems } from '../../schemas/problem.ts';
import { waitQuery } from '../../schemas/run.ts';
import {
  createStorageNodeSchema,
  storageNodePageSchema,
  storageNodeQuery,
  storageNodeRunSchema,
  storageNodeSchema,
  updateStorageNodeSchema,
} from '../../schemas/storage-node.ts';
import { answerRun } from '../answer-run.ts';

const tags = ['Storage nodes'];
const params = z.object({ storageNode: ref('storage node') });

const list = {
  schema: {
    tags,
    summary: 'List storage nodes',
    description: 'Oldest first.',
    querystring: storageNodeQuery,
    response: { 200: storageNodePageSchema, ...problems('invalid-request') },
  },
};

const show = {
  schema: {
    tags,
    summary: 'Look at a storage node',
    description: 'What it last said of itself, and whether it answers.',
    params,
    response: { 200: storageNodeSchema, ...problems('invalid-request', 'storage-node-not-found') },
  },
};

const create = {
  schema: {
    tags,
    summary: 'Add a storage node',
    description:
      'Starts a register-storage-node run: the storage node is asked who it is, and is online then.',
    querystring: waitQuery,
    body: createStorageNodeSchema,
    response: {
      201: storageNodeRunSchema,
      202: storageNodeRunSchema,
      ...problems(
        'invalid-request',
        'invalid-name',
        'storage-node-name-taken',
        'storage-node-address-taken',
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
    summary: 'Change the labels of a storage node',
    description: 'At once. `labels` replaces all that it has.',
    params,
    body: updateStorageNodeSchema,
    response: { 200: storageNodeSchema, ...problems('invalid-request', 'storage-node-not-found') },
  },
};

const remove = {
  schema: {
    tags,
    summary: 'Remove a storage node',
    description:
      'Starts a remove-storage-node run. Refused while the storage node owns volumes or repositories, or a ' +
      'run works on it.',
    params,
    querystring: waitQuery,
    response: {
      200: storageNodeRunSchema,
      202: storageNodeRunSchema,
      ...problems(
        'invalid-request',
        'storage-node-not-found',
        'storage-node-in-use',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

export const storageNodeRoutes: FastifyPluginAsyncZod = async app => {
  app.get('/storage-nodes', list, request => app.storageNodes.list(request.query));

  app.get('/storage-nodes/:storageNode', show, request => app.storageNodes.get(request.params.storageNode));

  app.post('/storage-nodes', create, async (request, reply) => {
    const started = await app.storageNodes.create(request.body);
    const { id } = started.storageNode;
    const refresh = async () => ({ storageNode: await app.storageNodes.find(id) });
    return answerRun(app, request, reply, { started, refresh, made: `/v1/storage-nodes/${id}` });
  });

  app.patch('/storage-nodes/:storageNode', update, request =>
    app.storageNodes.update(request.params.storageNode, request.body),
  );

  app.delete('/storage-nodes/:storageNode', remove, async (request, reply) => {
    const started = await app.storageNodes.remove(request.params.storageNode);
    const refresh = async () => ({ storageNode: await app.storageNodes.find(started.storageNode.id) });
    return answerRun(app, request, reply, { started, refresh });
  });
};
