// Commits of a volume's images: list, look at, start, and end by pivot or keep.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { commitPageSchema, commitRunSchema, commitSchema, createCommitSchema } from '../../schemas/commit.ts';
import { idField, pageQuery, ref } from '../../schemas/common.ts';
import { problems } from '../../schemas/problem.ts';
import { waitQuery } from '../../schemas/run.ts';
import { answerRun } from '../answer-run.ts';

const tags = ['Commits'];
const volumeParams = z.object({ volume: ref('volume') });
const params = volumeParams.extend({ commit: idField });

const list = {
  schema: {
    tags,
    summary: "List a volume's commits",
    description: 'Newest first.',
    params: volumeParams,
    querystring: pageQuery,
    response: { 200: commitPageSchema, ...problems('invalid-request', 'volume-not-found') },
  },
};

const show = {
  schema: {
    tags,
    summary: 'Look at a commit',
    description: 'Its state, and the snapshots that it overwrote.',
    params,
    response: { 200: commitSchema, ...problems('invalid-request', 'volume-not-found', 'commit-not-found') },
  },
};

const start = {
  schema: {
    tags,
    summary: 'Start a commit',
    description:
      'Starts a commit run: the images from the top down to above the base are merged into the base. From its ' +
      'start on the snapshots from the base up to below the top are lost, also when the run is cancelled. The ' +
      "commit of a snapshot ends with its run. That of what the guest writes to needs 'active': true; its run " +
      'ends when the commit is ready, which then waits for pivot or keep. Cancel its run while it copies.',
    params: volumeParams,
    querystring: waitQuery,
    body: createCommitSchema,
    response: {
      201: commitRunSchema,
      202: commitRunSchema,
      ...problems(
        'invalid-request',
        'volume-not-found',
        'volume-not-ready',
        'volume-busy',
        'snapshot-not-found',
        'snapshot-not-ready',
        'commit-invalid',
        'storage-node-not-ready',
        'storage-node-unreachable',
        'job-interrupted',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

function finish(summary: string, description: string) {
  const response = {
    200: commitRunSchema,
    202: commitRunSchema,
    ...problems(
      'invalid-request',
      'volume-not-found',
      'commit-not-found',
      'commit-not-ready',
      'storage-node-not-ready',
      'storage-node-unreachable',
      'job-interrupted',
      'run-cancelled',
      'wait-timed-out',
    ),
  };
  return { schema: { tags, summary, description, params, querystring: waitQuery, response } };
}

const pivot = finish(
  'Let the guest go on in the base',
  'Starts a finish-commit run for a commit that is ready. Afterwards the merged images are gone.',
);

const keep = finish(
  'Leave the guest where it is',
  'Starts a finish-commit run for a commit that is ready. Afterwards the base holds a copy of that instant, and ' +
    'the guest goes on where it was: also the way to call such a commit off.',
);

export const commitRoutes: FastifyPluginAsyncZod = async app => {
  app.get('/volumes/:volume/commits', list, request =>
    app.commits.list(request.params.volume, request.query),
  );

  app.get('/volumes/:volume/commits/:commit', show, request =>
    app.commits.get(request.params.volume, request.params.commit),
  );

  app.post('/volumes/:volume/commits', start, async (request, reply) => {
    const started = await app.commits.start(request.params.volume, request.body);
    const { id, volumeId } = started.commit;
    const refresh = async () => ({ commit: await app.commits.find(started.commit) });
    const made = `/v1/volumes/${volumeId}/commits/${id}`;
    return answerRun(app, request, reply, { started, refresh, made });
  });

  for (const [decision, options] of [['pivot', pivot] as const, ['keep', keep] as const]) {
    app.post(`/volumes/:volume/commits/:commit/${decision}`, options, async (request, reply) => {
      const { volume, commit } = request.params;
      const started = await app.commits.finish(volume, commit, decision);
      const refresh = async () => ({ commit: await app.commits.find(started.commit) });
      return answerRun(app, request, reply, { started, refresh });
    });
  }
};
