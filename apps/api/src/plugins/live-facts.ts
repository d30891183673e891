// Gives every route `app.liveFacts`, and closes its connections with the app. None is made before the first question.
import type { FleetKeys } from '@tidemark/proto';
import fastifyPlugin from 'fastify-plugin';
import { LiveFacts } from '../live/live-facts.ts';

declare module 'fastify' {
  interface FastifyInstance {
    liveFacts: LiveFacts;
  }
}

export const liveFactsPlugin = fastifyPlugin<FleetKeys>(
  async (app, { fleetSecret, tls }) => {
    const facts = new LiveFacts(app.catalog, { fleetSecret, tls });
    app.decorate('liveFacts', facts);
    app.addHook('preClose', async () => facts.stop());
    app.addHook('onClose', async () => facts.close());
  },
  { name: 'live-facts', dependencies: ['catalog'] },
);
