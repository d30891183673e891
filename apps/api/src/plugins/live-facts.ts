// Gives every route `app.liveFacts`, and closes its connections with the app. None is made before the first question.
import fastifyPlugin from 'fastify-plugin';
import { LiveFacts } from '../live/live-facts.ts';

declare module 'fastify' {
  interface FastifyInstance {
    liveFacts: LiveFacts;
  }
}

export const liveFactsPlugin = fastifyPlugin<{ fleetSecret: string | undefined }>(
  async (app, { fleetSecret }) => {
    const facts = new LiveFacts(app.catalog, fleetSecret);
    app.decorate('liveFacts', facts);
    app.addHook('preClose', async () => facts.stop());
    app.addHook('onClose', async () => facts.close());
  },
  { name: 'live-facts', dependencies: ['catalog'] },
);
