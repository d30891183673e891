// Snapshots of a volume: list, look at, create.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { pageQuery, ref } from '../../schemas/common.ts';
import { problems } from '../../schemas/problem.ts';
import { waitQuery } from '../../schemas/run.ts';
import {
  createSnapshotSchema,
  snapshotPageSchema,
  snapshotRunSchema,
  snapshotSchema,
} from '../../schemas/snapshot.ts';
import { answerRun } from '../answer-run.ts';

const tags = ['Snapshots'];
const volumeParams = z.object({ volume: ref('volume') });
const params = volumeParams.extend({ snapshot: ref('snapshot') });

const list = {
  schema: {
    tags,
    summary: "List a volume's snapshots",
    description: 'Oldest first.',
    params: volumeParams,
    querystring: pageQuery,
    response: { 200: snapshotPageSchema, ...problems('invalid-request', 'volume-not-found') },
  },
};

const show = {
  schema: {
    tags,
    summary: 'Look at a snapshot',
    description: 'The instant whose contents it keeps.',
    params,
    response: {
      200: snapshotSchema,
      ...problems('invalid-request', 'volume-not-found', 'snapshot-not-found'),
    },
  },
};

const create = {
  schema: {
    tags,
    summary: 'Take a snapshot',
    description:
      'Starts a create-snapshot run: what the volume holds at that instant is kept, and the guest goes on in a ' +
      'new image above it. Snapshots go by commits. `wait=checkpoint` answers when the instant has passed.',
    params: volumeParams,
    querystring: waitQuery,
    body: createSnapshotSchema,
    response: {
      201: snapshotRunSchema,
      202: snapshotRunSchema,
      ...problems(
        'invalid-request',
        'invalid-name',
        'volume-not-found',
        'volume-not-ready',
        'volume-busy',
        'storage-node-not-ready',
        'storage-node-unreachable',
        'snapshot-name-taken',
        'snapshot-limit',
        'storage-full',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

export const snapshotRoutes: FastifyPluginAsyncZod = async app => {
  app.get('/volumes/:volume/snapshots', list, request =>
    app.snapshots.list(request.params.volume, request.query),
  );

  app.get('/volumes/:volume/snapshots/:snapshot', show, request =>
    app.snapshots.get(request.params.volume, request.params.snapshot),
  );

  app.post('/volumes/:volume/snapshots', create, async (request, reply) => {
    const started = await app.snapshots.create(request.params.volume, request.body);
    const { id, volumeId } = started.snapshot;
    const refresh = async () => ({ snapshot: await app.snapshots.find({ volumeId, id }) });
    const made = `/v1/volumes/${volumeId}/snapshots/${id}`;
    return answerRun(app, request, reply, { started, refresh, made });
  });
};
