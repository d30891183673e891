// Volumes: list, look at, create, change, delete.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { ref } from '../../schemas/common.ts';
import { problems } from '../../schemas/problem.ts';
import { waitQuery } from '../../schemas/run.ts';
import {
  createVolumeSchema,
  moveVolumeSchema,
  updateVolumeSchema,
  volumePageSchema,
  volumeQuery,
  volumeRunSchema,
  volumeSchema,
} from '../../schemas/volume.ts';
import { answerRun } from '../answer-run.ts';

const tags = ['Volumes'];
const params = z.object({ volume: ref('volume') });

const list = {
  schema: {
    tags,
    summary: 'List volumes',
    description: 'Oldest first.',
    querystring: volumeQuery,
    response: { 200: volumePageSchema, ...problems('invalid-request', 'storage-node-not-found') },
  },
};

const show = {
  schema: {
    tags,
    summary: 'Look at a volume',
    description: '`exportUri` is where its guest connects, over NBD.',
    params,
    response: { 200: volumeSchema, ...problems('invalid-request', 'volume-not-found') },
  },
};

const create = {
  schema: {
    tags,
    summary: 'Create a volume',
    description: 'Starts a create-volume run. When it fails, the volume is gone again.',
    querystring: waitQuery,
    body: createVolumeSchema,
    response: {
      201: volumeRunSchema,
      202: volumeRunSchema,
      ...problems(
        'invalid-request',
        'invalid-name',
        'invalid-volume-size',
        'storage-node-not-found',
        'storage-node-not-ready',
        'storage-node-unreachable',
        'storage-node-cordoned',
        'storage-node-lost',
        'volume-name-taken',
        'storage-full',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

const update = {
  schema: {
    tags,
    summary: 'Change the labels of a volume, or how many checkpoints it may have',
    description:
      'At once. `labels` replaces all that it has. No checkpoint goes by a lower limit; a new one is refused, or ' +
      'drops the oldest, from then on.',
    params,
    body: updateVolumeSchema,
    response: { 200: volumeSchema, ...problems('invalid-request', 'volume-not-found') },
  },
};

const move = {
  schema: {
    tags,
    summary: 'Move a volume to another storage node',
    description:
      'Starts a move-volume run, with all checkpoints, while the guest writes. At its end the guest is disconnected ' +
      'and finds the volume at its new `exportUri`, which the event volume-moved tells. Until then the run can be ' +
      'cancelled, and what fails leaves the volume where it was.',
    params,
    querystring: waitQuery,
    body: moveVolumeSchema,
    response: {
      200: volumeRunSchema,
      202: volumeRunSchema,
      ...problems(
        'invalid-request',
        'volume-not-found',
        'volume-not-ready',
        'volume-busy',
        'storage-node-not-found',
        'storage-node-not-ready',
        'storage-node-unreachable',
        'storage-node-cordoned',
        'storage-node-lost',
        'storage-full',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

const remove = {
  schema: {
    tags,
    summary: 'Delete a volume',
    description: 'Starts a delete-volume run. Its checkpoints and snapshots go with it; its backups stay.',
    params,
    querystring: waitQuery,
    response: {
      200: volumeRunSchema,
      202: volumeRunSchema,
      ...problems(
        'invalid-request',
        'volume-not-found',
        'volume-not-ready',
        'volume-busy',
        'storage-node-not-ready',
        'storage-node-unreachable',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

export const volumeRoutes: FastifyPluginAsyncZod = async app => {
  app.get('/volumes', list, request => app.volumes.list(request.query));

  app.get('/volumes/:volume', show, request => app.volumes.get(request.params.volume));

  app.post('/volumes', create, async (request, reply) => {
    const started = await app.volumes.create(request.body);
    const { id } = started.volume;
    const refresh = async () => ({ volume: await app.volumes.find(id) });
    return answerRun(app, request, reply, { started, refresh, made: `/v1/volumes/${id}` });
  });

  app.patch('/volumes/:volume', update, request => app.volumes.update(request.params.volume, request.body));

  app.post('/volumes/:volume/move', move, async (request, reply) => {
    const started = await app.volumes.move(request.params.volume, request.body);
    const refresh = async () => ({ volume: await app.volumes.find(started.volume.id) });
    return answerRun(app, request, reply, { started, refresh });
  });

  app.delete('/volumes/:volume', remove, async (request, reply) => {
    const started = await app.volumes.remove(request.params.volume);
    const refresh = async () => ({ volume: await app.volumes.find(started.volume.id) });
    return answerRun(app, request, reply, { started, refresh });
  });
};
