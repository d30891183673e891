// Tokens: list, look at, create, revoke.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { ref } from '../../schemas/common.ts';
import { problems } from '../../schemas/problem.ts';
import {
  createdTokenSchema,
  createTokenSchema,
  revokeTokenQuery,
  tokenPageSchema,
  tokenQuery,
  tokenSchema,
} from '../../schemas/token.ts';

const tags = ['Access'];
const params = z.object({ token: ref('token') });
const config = { role: 'admin' } as const;

const list = {
  config,
  schema: {
    tags,
    summary: 'List tokens',
    description: 'Oldest first, also those that let nobody in any more.',
    querystring: tokenQuery,
    response: { 200: tokenPageSchema, ...problems('invalid-request') },
  },
};

const show = {
  config,
  schema: {
    tags,
    summary: 'Look at a token',
    description: 'What it may do, until when, and when it was last used.',
    params,
    response: { 200: tokenSchema, ...problems('invalid-request', 'token-not-found') },
  },
};

const create = {
  config: { ...config, secretAnswer: true },
  schema: {
    tags,
    summary: 'Create a token',
    description: '`secret` is the token itself: this answer is the only place where it ever stands.',
    body: createTokenSchema,
    response: {
      201: createdTokenSchema,
      ...problems('invalid-request', 'invalid-name', 'token-name-taken'),
    },
  },
};

const revoke = {
  config,
  schema: {
    tags,
    summary: 'Revoke a token',
    description:
      'At once and for good. It stays in the list, and its name stays taken. Good to repeat. Where tokens are ' +
      'needed, the last one that lets an admin in is refused.',
    params,
    querystring: revokeTokenQuery,
    response: { 200: tokenSchema, ...problems('invalid-request', 'token-not-found', 'token-last') },
  },
};

export const tokenRoutes: FastifyPluginAsyncZod = async app => {
  app.get('/tokens', list, request => app.tokens.list(request.query));

  app.get('/tokens/:token', show, request => app.tokens.get(request.params.token));

  app.post('/tokens', create, async (request, reply) => {
    const made = await app.tokens.create(request.body, request.actor);
    reply.code(201).header('location', `/v1/tokens/${made.token.id}`);
    return made;
  });

  app.delete('/tokens/:token', revoke, request => app.tokens.revoke(request.params.token, request.query));
};
