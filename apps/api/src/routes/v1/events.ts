// Events: what changes, in pages or as a stream that goes on.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { eventPageSchema, eventQuery, eventStreamSchema } from '../../schemas/event.ts';
import { problems } from '../../schemas/problem.ts';

const EVENT_STREAM = 'text/event-stream';

const list = {
  schema: {
    tags: ['Events'],
    summary: 'List or follow events',
    description:
      'Oldest first, in the order of commits, none left out and none twice. In pages: ask again with `after` set to ' +
      'the last id seen; or from the newest back, with `order=newest-first` and the `nextCursor` of the page before. ' +
      `Or, with the header \`accept: ${EVENT_STREAM}\` or \`follow=true\`, as server-sent events ` +
      'that go on: from now on, or after `after`, `since` or the header `last-event-id`. A stream also tells of ' +
      'runs that move, as `run.progress`, at most once a second each; these have no id and are not kept. Events ' +
      'are removed after some time: who resumes from one whose successors are gone is refused ' +
      'with `events-pruned`, and who ' +
      'resumes from one that is not there yet, as after the catalog was restored, with `events-ahead`. ' +
      'A token with a scope is told of the volumes in it and what belongs to them, of groups of such volumes alone, ' +
      'and of the runs that it has asked for; a page may then be short, or empty, and have a next one.',
    querystring: eventQuery,
    response: {
      200: {
        description: 'A page, or the stream.',
        content: {
          'application/json': { schema: eventPageSchema },
          [EVENT_STREAM]: { schema: eventStreamSchema },
        },
      },
      ...problems(
        'invalid-request',
        'volume-not-found',
        'events-pruned',
        'events-ahead',
        'event-streams-limit',
      ),
    },
  },
};

export const eventRoutes: FastifyPluginAsyncZod = async app => {
  app.get('/events', list, async (request, reply) => {
    const { accept, 'last-event-id': lastEventId } = request.headers;
    const { follow } = request.query;
    const streams = follow === undefined ? accept?.includes(EVENT_STREAM) : follow === 'true';
    if (!streams) return app.events.list(request.query);
    const following = await app.events.prepare(request.query, [lastEventId].flat()[0]);
    reply.hijack();
    reply.raw.writeHead(200, {
      'content-type': EVENT_STREAM,
      'cache-control': 'no-store',
      // Nothing else comes over it afterwards: the service need not wait for it when it stops.
      connection: 'close',
      // Proxies such as nginx hold answers back otherwise.
      'x-accel-buffering': 'no',
    });
    const { actor, headers, log } = request;
    const requireAccess =
      actor.tokenId === null ? undefined : () => app.tokens.authenticate(headers.authorization);
    app.events.follow(following, reply.raw, { log, requireAccess });
    return reply as never;
  });
};
