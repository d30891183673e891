// Repositories: list, look at, create, change, scan, delete.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { ref } from '../../schemas/common.ts';
import { problems } from '../../schemas/problem.ts';
import {
  changeRepositorySchema,
  createRepositorySchema,
  repositoryPageSchema,
  repositoryQuery,
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
    querystring: repositoryQuery,
    response: { 200: repositoryPageSchema, ...problems('invalid-request', 'storage-node-not-found') },
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
        'storage-node-cordoned',
        'storage-node-lost',
        'repository-name-taken',
        'storage-full',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

const params = z.object({ repository: ref('repository') });

const change = {
  schema: {
    tags,
    summary: 'Change a repository',
    description: 'How much of it is verified each day, and its labels: `labels` replaces all that it has.',
    params,
    body: changeRepositorySchema,
    response: {
      200: repositorySchema,
      ...problems('invalid-request', 'repository-not-found', 'repository-not-ready'),
    },
  },
};

const AT_STORAGE_NODE = [
  'invalid-request',
  'repository-not-found',
  'repository-not-ready',
  'storage-node-not-ready',
  'storage-node-unreachable',
  'run-cancelled',
  'wait-timed-out',
] as const;

const scan = {
  schema: {
    tags,
    summary: 'Scan a repository',
    description:
      'Starts a scan-repository run: the catalog takes over what the manifests in its folder say, also of volumes ' +
      'that are gone. What the catalog has and the folder has not is told of in the result, never deleted.',
    params,
    querystring: waitQuery,
    response: { 200: repositoryRunSchema, 202: repositoryRunSchema, ...problems(...AT_STORAGE_NODE) },
  },
};

const remove = {
  schema: {
    tags,
    summary: 'Delete a repository',
    description: 'Starts a delete-repository run. Refused while there are backups in it.',
    params,
    querystring: waitQuery,
    response: {
      200: repositoryRunSchema,
      202: repositoryRunSchema,
      ...problems(...AT_STORAGE_NODE, 'repository-in-use'),
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

  app.patch('/repositories/:repository', change, request =>
    app.repositories.change(request.params.repository, request.body),
  );

  app.post('/repositories/:repository/scan', scan, async (request, reply) => {
    const started = await app.repositories.scan(request.params.repository);
    const { id } = started.repository;
    const refresh = async () => ({ repository: await app.repositories.find(id) });
    return answerRun(app, request, reply, { started, refresh });
  });

  app.delete('/repositories/:repository', remove, async (request, reply) => {
    const started = await app.repositories.remove(request.params.repository);
    const { id } = started.repository;
    const refresh = async () => ({ repository: await app.repositories.find(id) });
    return answerRun(app, request, reply, { started, refresh });
  });
};
