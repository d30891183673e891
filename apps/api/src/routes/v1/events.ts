// Events: follow what changes.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { eventPageSchema, eventQuery } from '../../schemas/event.ts';
import { problems } from '../../schemas/problem.ts';

export const eventRoutes: FastifyPluginAsyncZod = async app => {
  app.get(
    '/events',
    {
      schema: {
        tags: ['Events'],
        summary: 'List events',
        description: 'Oldest first. Ask again with `after` set to the last id seen, to follow along.',
        querystring: eventQuery,
        response: { 200: eventPageSchema, ...problems('invalid-request') },
      },
    },
    request => app.events.list(request.query),
  );
};
