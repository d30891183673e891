// Storage nodes that are to be emptied, or are lost.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { ref } from '../../schemas/common.ts';
import { problems } from '../../schemas/problem.ts';
import { waitQuery } from '../../schemas/run.ts';
import {
  drainStorageNodeSchema,
  recoverStorageNodeSchema,
  storageNodeRunSchema,
  storageNodeSchema,
} from '../../schemas/storage-node.ts';
import { answerRun } from '../answer-run.ts';

const tags = ['Storage nodes'];
const params = z.object({ storageNode: ref('storage node') });
const config = { role: 'admin' } as const;

const cordoning = (summary: string, description: string) => ({
  config,
  schema: {
    tags,
    summary,
    description,
    params,
    response: { 200: storageNodeSchema, ...problems('invalid-request', 'storage-node-not-found') },
  },
});

const cordon = cordoning(
  'Cordon a storage node',
  'No new volume, restore, repository or move goes there. What it has is used as before. Good to repeat.',
);
const uncordon = cordoning('Uncordon a storage node', 'It takes what is new again. Good to repeat.');

const running = {
  200: storageNodeRunSchema,
  202: storageNodeRunSchema,
  ...problems(
    'invalid-request',
    'storage-node-not-found',
    'storage-node-not-ready',
    'storage-node-unreachable',
    'storage-node-lost',
    'storage-node-in-use',
    'run-cancelled',
    'wait-timed-out',
  ),
};

const drain = {
  config,
  schema: {
    tags,
    summary: 'Drain a storage node',
    description:
      'Cordons it and starts a drain-storage-node run: each volume moves, a few at a time, to the storage node with ' +
      'the most room. `result.stays` names what cannot move and why, `result.repositories` what stays in any case.',
    params,
    querystring: waitQuery,
    body: drainStorageNodeSchema,
    response: running,
  },
};

const recover = {
  config,
  schema: {
    tags,
    summary: 'Give up a storage node and restore its volumes elsewhere',
    description:
      'For one that is lost for good; refused while it answers. Its repositories are lost, their backups missing. ' +
      'Each volume keeps its name and is restored from the newest sound backup in any other repository; ' +
      '`result.volumes` tells of each from which, how old it was, and what is lost. ' +
      'Asked for again, it tries what is still lost.',
    params,
    querystring: waitQuery,
    body: recoverStorageNodeSchema,
    response: running,
  },
};

export const storageNodeCareRoutes: FastifyPluginAsyncZod = async app => {
  const refreshed = (id: string) => async () => ({ storageNode: await app.storageNodes.find(id) });

  app.post('/storage-nodes/:storageNode/cordon', cordon, request =>
    app.care.setCordoned(request.params.storageNode, true),
  );

  app.post('/storage-nodes/:storageNode/uncordon', uncordon, request =>
    app.care.setCordoned(request.params.storageNode, false),
  );

  app.post('/storage-nodes/:storageNode/drain', drain, async (request, reply) => {
    const started = await app.care.drain(request.params.storageNode, request.body);
    return answerRun(app, request, reply, { started, refresh: refreshed(started.storageNode.id) });
  });

  app.post('/storage-nodes/:storageNode/recover', recover, async (request, reply) => {
    const started = await app.care.recover(request.params.storageNode, request.body);
    return answerRun(app, request, reply, { started, refresh: refreshed(started.storageNode.id) });
  });
};
