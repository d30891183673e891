// Gives `app.eventHub`, and ends its streams before the app waits for open answers.
import fastifyPlugin from 'fastify-plugin';
import { EventHub } from '../events/event-hub.ts';

declare module 'fastify' {
  interface FastifyInstance {
    eventHub: EventHub;
  }
}

export const eventHubPlugin = fastifyPlugin<{ databaseUrl: string }>(
  async (app, { databaseUrl }) => {
    const hub = new EventHub({ catalog: app.catalog, databaseUrl, log: app.log });
    app.decorate('eventHub', hub);
    app.addHook('preClose', () => hub.close());
  },
  { name: 'event-hub', dependencies: ['catalog'] },
);
