// Events: follow what changes.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { eventPageSchema, eventQuery } from '../../schemas/event.ts';
import { problems } from '../../schemas/problem.ts';

const list = {
  schema: {
    tags: ['Events'],
    summary: 'List events',
    description: 'Oldest first. Ask again with `after` set to the last id seen, to follow along.',
    querystring: eventQuery,
    response: { 200: eventPageSchema, ...problems('invalid-request') },
  },
};

export const eventRoutes: FastifyPluginAsyncZod = async app => {
  app.get('/events', list, request => app.events.list(request.query));
};
