// Runs: list, look at, cancel.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { idField } from '../../schemas/common.ts';
import { problems } from '../../schemas/problem.ts';
import { runAnswerSchema, runPageSchema, runQuery, runSchema } from '../../schemas/run.ts';

const tags = ['Runs'];
const params = z.object({ run: idField });

const list = {
  schema: {
    tags,
    summary: 'List runs',
    description: 'Newest first.',
    querystring: runQuery,
    response: { 200: runPageSchema, ...problems('invalid-request') },
  },
};

const show = {
  schema: {
    tags,
    summary: 'Look at a run',
    description: 'Its state, its steps and its progress.',
    params,
    response: { 200: runSchema, ...problems('invalid-request', 'run-not-found') },
  },
};

const cancel = {
  schema: {
    tags,
    summary: 'Cancel a run',
    description:
      'Only asks: the run is undone and ends as cancelled soon after. Good to repeat while the run goes on.',
    params,
    response: { 202: runAnswerSchema, ...problems('invalid-request', 'run-not-found', 'run-ended') },
  },
};

export const runRoutes: FastifyPluginAsyncZod = async app => {
  app.get('/runs', list, request => app.runs.list(request.query));

  app.get('/runs/:run', show, request => app.runs.get(request.params.run));

  app.post('/runs/:run/cancel', cancel, async (request, reply) => {
    const run = await app.runs.cancel(request.params.run);
    reply.code(202).header('location', `/v1/runs/${run.id}`);
    return { run };
  });
};
