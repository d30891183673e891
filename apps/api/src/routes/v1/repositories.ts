// Repositories: list, look at, create.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { pageQuery, ref } from '../../schemas/common.ts';
import { problems } from '../../schemas/problem.ts';
import {
  createRepositorySchema,
  repositoryPageSchema,
  repositoryRunSchema,
  repositorySchema,
} from '../../schemas/repository.ts';
import { waitQuery } from '../../schemas/run.ts';
import { answerRun } from '../answer-run.ts';

const tags = ['Repositories'];

const list = {
  schema: {
    tags,
    summary: 'List repositories',
    description: 'Oldest first.',
    querystring: pageQuery,
    response: { 200: repositoryPageSchema, ...problems('invalid-request') },
  },
};

const show = {
  schema: {
    tags,
    summary: 'Look at a repository',
    description: 'Where it is and how much it may hold.',
    params: z.object({ repository: ref('repository') }),
    response: { 200: repositorySchema, ...problems('invalid-request', 'repository-not-found') },
  },
};

const create = {
  schema: {
    tags,
    summary: 'Create a repository',
    description: 'Starts a create-repository run. When it fails, the repository is gone again.',
    querystring: waitQuery,
    body: createRepositorySchema,
    response: {
      201: repositoryRunSchema,
      202: repositoryRunSchema,
      ...problems(
        'invalid-request',
        'invalid-name',
        'storage-node-not-found',
        'storage-node-not-ready',
        'storage-node-unreachable',
        'repository-name-taken',
        'storage-full',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

export const repositoryRoutes: FastifyPluginAsyncZod = async app => {
  app.get('/repositories', list, request => app.repositories.list(request.query));

  app.get('/repositories/:repository', show, request => app.repositories.get(request.params.repository));

  app.post('/repositories', create, async (request, reply) => {
    const started = await app.repositories.create(request.body);
    const { id } = started.repository;
    const refresh = async () => ({ repository: await app.repositories.find(id) });
    return answerRun(app, request, reply, { started, refresh, made: `/v1/repositories/${id}` });
  });
};
