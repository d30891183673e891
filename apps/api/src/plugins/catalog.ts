// Gives every route `app.catalog`, and closes it with the app. Nothing connects before the first query, so
// the service starts, and answers 503, while the database is away.
import { Catalog } from '@tidemark/catalog';
import fastifyPlugin from 'fastify-plugin';
import { currentRequest } from '../access/current-request.ts';

declare module 'fastify' {
  interface FastifyInstance {
    catalog: Catalog;
  }
}

export const catalogPlugin = fastifyPlugin<{ url: string }>(
  async (app, { url }) => {
    const catalog = Catalog.connect(url, { acting: () => currentRequest() ?? null });
    app.decorate('catalog', catalog);
    app.addHook('onClose', () => catalog.close());
  },
  { name: 'catalog' },
);
