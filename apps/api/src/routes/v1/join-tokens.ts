// Join tokens, and the door that storage nodes join through with one.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { idField, pageQuery } from '../../schemas/common.ts';
import {
  createdJoinTokenSchema,
  createJoinTokenSchema,
  deletedJoinTokenSchema,
  joinSchema,
  joinTokenPageSchema,
} from '../../schemas/join-token.ts';
import { problems } from '../../schemas/problem.ts';
import { joinedSchema } from '../../schemas/storage-node.ts';

const tags = ['Storage nodes'];
const config = { role: 'admin' } as const;

const list = {
  config,
  schema: {
    tags,
    summary: 'List join tokens',
    description: 'Oldest first, also those that are used up or have expired.',
    querystring: pageQuery,
    response: { 200: joinTokenPageSchema, ...problems('invalid-request') },
  },
};

const create = {
  config: { ...config, secretAnswer: true },
  schema: {
    tags,
    summary: 'Create a join token',
    description:
      'Lets one storage node join by itself, once. `secret` is the token: only this answer has it.',
    body: createJoinTokenSchema,
    response: { 201: createdJoinTokenSchema, ...problems('invalid-request', 'invalid-name') },
  },
};

const remove = {
  config,
  schema: {
    tags,
    summary: 'Delete a join token',
    description: 'Nobody joins with it any more; whoever has joined stays. Good to repeat.',
    params: z.object({ joinToken: idField }),
    response: { 200: deletedJoinTokenSchema, ...problems('invalid-request') },
  },
};

const join = {
  // The join token is what lets in.
  config: { role: 'anybody' } as const,
  schema: {
    tags,
    summary: 'Join the fleet',
    description:
      'Called by a storage node at its start. Unknown so far, it is registered by a run; known by its instance, it ' +
      'is found at its new address. Good to repeat by the same instance until the token expires.',
    body: joinSchema,
    response: {
      202: joinedSchema,
      ...problems(
        'invalid-request',
        'invalid-name',
        'join-token-invalid',
        'storage-node-name-taken',
        'storage-node-address-taken',
        'storage-node-lost',
      ),
    },
  },
};

export const joinTokenRoutes: FastifyPluginAsyncZod = async app => {
  app.get('/join-tokens', list, request => app.joins.list(request.query));

  app.post('/join-tokens', create, async (request, reply) => {
    reply.status(201);
    return app.joins.create(request.body);
  });

  app.delete('/join-tokens/:joinToken', remove, request => app.joins.remove(request.params.joinToken));

  app.post('/storage-nodes/join', join, async (request, reply) => {
    reply.status(202);
    return app.joins.join(request.body);
  });
};
