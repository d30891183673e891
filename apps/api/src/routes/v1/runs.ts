// Runs: list, look at, cancel; hold their jobs back, let them go on, end what has no end of its own.
import type { FastifyReply } from 'fastify';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { idField } from '../../schemas/common.ts';
import { problems } from '../../schemas/problem.ts';
import {
  type RunJson,
  runAnswerSchema,
  runPageSchema,
  runQuery,
  runSchema,
  runSpeedSchema,
} from '../../schemas/run.ts';

const tags = ['Runs'];
const params = z.object({ run: idField });

const list = {
  schema: {
    tags,
    summary: 'List runs',
    description: 'Newest first.',
    querystring: runQuery,
    response: {
      200: runPageSchema,
      ...problems('invalid-request', 'volume-not-found', 'storage-node-not-found', 'repository-not-found'),
    },
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
      'Only asks: the run is undone and ends as cancelled soon after; `ending` says what stays. Good to repeat while ' +
      'the run goes on. An instant restore is refused once its volume can be used: delete the volume instead.',
    params,
    response: {
      202: runAnswerSchema,
      ...problems('invalid-request', 'run-not-found', 'run-ended', 'run-not-controllable'),
    },
  },
};

/** For a call that asks something of a run; its worker hears of it within a second. */
const ask = (summary: string, description: string) => ({
  schema: {
    tags,
    summary,
    description,
    params,
    response: {
      202: runAnswerSchema,
      ...problems('invalid-request', 'run-not-found', 'run-ended', 'run-not-controllable'),
    },
  },
});

const pause = ask(
  'Pause a run',
  "Its job stands still until `resume`. Guests go on; a backup's scratch keeps what they overwrite. Of a group's " +
    'run: all of its copies, also those that are still to begin; the instant itself is never held up. Good to repeat.',
);
const resume = ask('Resume a run', "Its job goes on; of a group's run, all of its copies. Good to repeat.");
const finish = ask(
  'Finish a run',
  'An export that goes on until somebody says so ends well. Good to repeat.',
);
const speed = ask(
  'Set the speed of a run',
  "Of its job, at once and for later attempts; of a group's run, of each of its copies. Good to repeat.",
);

export const runRoutes: FastifyPluginAsyncZod = async app => {
  app.get('/runs', list, request => app.runs.list(request.query));

  app.get('/runs/:run', show, request => app.runs.get(request.params.run));

  const accepted = (reply: FastifyReply, run: RunJson) => {
    reply.code(202).header('location', `/v1/runs/${run.id}`);
    return { run };
  };

  app.post('/runs/:run/cancel', cancel, async (request, reply) =>
    accepted(reply, await app.runs.cancel(request.params.run)),
  );

  app.post('/runs/:run/pause', pause, async (request, reply) =>
    accepted(reply, await app.runs.pause(request.params.run)),
  );

  app.post('/runs/:run/resume', resume, async (request, reply) =>
    accepted(reply, await app.runs.resume(request.params.run)),
  );

  app.post('/runs/:run/finish', finish, async (request, reply) =>
    accepted(reply, await app.runs.finish(request.params.run)),
  );

  app.post(
    '/runs/:run/speed',
    { schema: { ...speed.schema, body: runSpeedSchema } },
    async (request, reply) =>
      accepted(reply, await app.runs.setSpeed(request.params.run, request.body.bytesPerSecond)),
  );
};
