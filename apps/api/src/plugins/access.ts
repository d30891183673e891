// Says of each request who asks, as `request.actor`, and refuses those whose role is less than their route needs.
import { TidemarkError } from '@tidemark/proto';
import type { FastifyRequest, RouteOptions } from 'fastify';
import fastifyPlugin from 'fastify-plugin';
import { type Actor, LOCAL_ACTOR, mayAct, type Role } from '../access/actor.ts';
import { withRequest } from '../access/current-request.ts';

declare module 'fastify' {
  interface FastifyRequest {
    actor: Actor;
  }

  interface FastifyContextConfig {
    /** Least role of who may call it; by default `viewer` to read and `operator` to change. */
    role?: Role | 'anybody';
  }
}

const READS = new Set(['GET', 'HEAD', 'OPTIONS']);
/** The contract itself is no secret. */
const OPEN_PATHS = /^\/(docs(\/|$)|openapi\.json$)/;

function requireRole(request: FastifyRequest): void {
  const { role = READS.has(request.method) ? 'viewer' : 'operator' } = request.routeOptions.config;
  if (role === 'anybody' || mayAct(request.actor, role)) return;
  throw new TidemarkError(
    'forbidden',
    `'${request.actor.name}' has the role ${request.actor.role}; ${request.method} ${request.routeOptions.url} needs ` +
      `${role}. Ask an admin for a token with that role.`,
  );
}

export const access = fastifyPlugin(
  async app => {
    app.decorateRequest('actor');
    app.addHook('onRoute', (route: RouteOptions) => {
      if (OPEN_PATHS.test(route.url)) route.config = { ...route.config, role: 'anybody' };
    });
    app.addHook('onRequest', (request, _reply, done) => {
      const actor = LOCAL_ACTOR;
      request.actor = actor;
      withRequest({ actor, acting: { name: actor.name } }, done);
    });
    app.addHook('onRequest', async request => requireRole(request));
  },
  { name: 'access' },
);
