// Gives every route `app.runQueue`, and closes it with the app.
import fastifyPlugin from 'fastify-plugin';
import { RunQueue } from '../queue/run-queue.ts';

declare module 'fastify' {
  interface FastifyInstance {
    runQueue: RunQueue;
  }
}

export const queuePlugin = fastifyPlugin<{ url: string }>(
  async (app, { url }) => {
    const queue = new RunQueue({ url, log: app.log });
    app.decorate('runQueue', queue);
    app.addHook('onClose', () => queue.close());
  },
  { name: 'queue' },
);
