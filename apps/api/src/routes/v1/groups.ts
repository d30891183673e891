// Groups: list, look at, make, delete.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { refuseScope } from '../../plugins/access.ts';
import { ref } from '../../schemas/common.ts';
import {
  createGroupSchema,
  groupPageSchema,
  groupQuery,
  groupRunSchema,
  groupSchema,
  newGroupRunSchema,
} from '../../schemas/group.ts';
import { problems } from '../../schemas/problem.ts';
import { waitQuery } from '../../schemas/run.ts';
import { answerRun } from '../answer-run.ts';

const tags = ['Groups'];
const params = z.object({ group: ref('group; of several of one name the one that was not given up') });

const list = {
  schema: {
    tags,
    summary: 'List groups',
    description: 'Newest first, with those that failed.',
    querystring: groupQuery,
    response: {
      200: groupPageSchema,
      ...problems(
        'invalid-request',
        'volume-not-found',
        'storage-node-not-found',
        'repository-not-found',
        'policy-not-found',
      ),
    },
  },
};

const show = {
  schema: {
    tags,
    summary: 'Look at a group',
    description: 'Its members, how each fares, and the proof that they are of one instant.',
    params,
    response: { 200: groupSchema, ...problems('invalid-request', 'group-not-found') },
  },
};

const create = {
  schema: {
    tags,
    summary: 'Make a group',
    description:
      'Starts a create-group run: a checkpoint of each volume, all of one instant, or none at all; and, with ' +
      '`backup`, a backup of that instant for each. Writes of the guests wait for a moment, `fenceLimitMs` at most. ' +
      '`wait=checkpoint` answers when the instant is decided.',
    querystring: waitQuery,
    body: createGroupSchema,
    response: {
      201: newGroupRunSchema,
      202: newGroupRunSchema,
      ...problems(
        'invalid-request',
        'invalid-name',
        'group-name-taken',
        'volume-not-found',
        'volume-not-ready',
        'volume-busy',
        'volume-in-group',
        'repository-not-found',
        'repository-not-ready',
        'storage-node-not-found',
        'storage-node-not-ready',
        'storage-node-unreachable',
        'checkpoint-name-taken',
        'checkpoint-limit',
        'checkpoint-pinned',
        'checkpoint-in-use',
        'checkpoint-not-ready',
        'checkpoint-inconsistent',
        'group-fence-broken',
        'group-interrupted',
        'group-incomplete',
        'hook-not-found',
        'hook-failed',
        'storage-full',
        'io-error',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

const remove = {
  schema: {
    tags,
    summary: 'Delete a group',
    description:
      'Starts a delete-group run: its checkpoints are merged away, and its backups taken out of their chains, as far ' +
      'as nothing else needs them. Refused, by name, where a member is protected or in use.',
    params,
    querystring: waitQuery,
    response: {
      200: groupRunSchema,
      202: groupRunSchema,
      ...problems(
        'invalid-request',
        'group-not-found',
        'group-not-ready',
        'checkpoint-pinned',
        'checkpoint-in-use',
        'checkpoint-not-ready',
        'backup-pinned',
        'backup-in-use',
        'backup-not-usable',
        'repository-not-ready',
        'storage-node-not-ready',
        'storage-node-unreachable',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

export const groupRoutes: FastifyPluginAsyncZod = async app => {
  app.get('/groups', list, request => {
    if (request.query.policy !== undefined) refuseScope(request, 'the filter by policy');
    return app.groups.list(request.query);
  });

  app.get('/groups/:group', show, request => app.groups.get(request.params.group));

  app.post('/groups', create, async (request, reply) => {
    const started = await app.groups.create(request.body);
    const { dropped } = started;
    const { id } = started.group;
    const refresh = async () => ({ group: await app.groups.find(id), dropped });
    return answerRun(app, request, reply, { started, refresh, made: `/v1/groups/${id}` });
  });

  app.delete('/groups/:group', remove, async (request, reply) => {
    const started = await app.groups.remove(request.params.group);
    const { id } = started.group;
    const refresh = async () => ({ group: await app.groups.find(id) });
    return answerRun(app, request, reply, { started, refresh });
  });
};
