// Says of each request who asks, as `request.actor`, and refuses those who may not: without a token where one is
// needed, with a role that is less than the route's, or with a scope where the route is about more than volumes.
import { TidemarkError } from '@tidemark/proto';
import type { FastifyReply, FastifyRequest, RouteOptions } from 'fastify';
import fastifyPlugin from 'fastify-plugin';
import { type Actor, LOCAL_ACTOR, mayAct, NOBODY, type Role } from '../access/actor.ts';
import { CurrentRequest, withRequest } from '../access/current-request.ts';
import { TokenService } from '../access/token-service.ts';

declare module 'fastify' {
  interface FastifyInstance {
    tokens: TokenService;
  }

  interface FastifyRequest {
    actor: Actor;
    current: CurrentRequest;
  }

  interface FastifyContextConfig {
    /** Least role of who may call it; by default `viewer` to read, `operator` to change, `admin` for the fleet. */
    role?: Role | 'anybody';
    /** Whether tokens with a scope may call it; by default what is about volumes that it looks up. */
    scoped?: boolean;
    /** It is sent as a change and is none: the audit log has no entry of it. */
    changesNothing?: boolean;
    /** The answer holds a secret: it is never stored. */
    secretAnswer?: boolean;
  }
}

export interface AccessOptions {
  /** Whether a token is needed. */
  readonly needsToken: boolean;
  readonly bootstrapToken?: string | undefined;
}

const READS = new Set(['GET', 'HEAD', 'OPTIONS']);
/** The contract itself is no secret. */
const OPEN_PATHS = /^\/(docs(\/|$)|openapi\.json$)/;

/** What these are about is looked up in the catalog, which gives those with a scope what is theirs alone. */
const SCOPED_PATHS = /^\/v1\/(volumes|backups|exports|restores|runs|events|webhooks)(\/|$)/;
/** Names to choose from, and groups that the catalog narrows, too. */
const SCOPED_READS = /^\/v1\/(repositories|storage-nodes|groups)(\/[^/]*)?$/;

/** Who changes these commands machines, or sends what happens elsewhere. */
const FLEET_PATHS = /^\/v1\/(storage-nodes|join-tokens|webhooks)(\/|$)/;

export const isChange = (request: FastifyRequest): boolean => !READS.has(request.method);

const placeOf = ({ method, routeOptions, url }: FastifyRequest) => `${method} ${routeOptions.url ?? url}`;

function requireRole(request: FastifyRequest): void {
  const { config, url = '' } = request.routeOptions;
  const { role = isChange(request) ? (FLEET_PATHS.test(url) ? 'admin' : 'operator') : 'viewer' } = config;
  if (role === 'anybody' || mayAct(request.actor, role)) return;
  const { name, role: own } = request.actor;
  throw new TidemarkError(
    'forbidden',
    `'${name}' has the role ${own}; ${placeOf(request)} needs ${role}. Ask an admin for a token with that role.`,
  );
}

function requireScope(request: FastifyRequest): void {
  const { config, url = '' } = request.routeOptions;
  const usual = SCOPED_PATHS.test(url) || (SCOPED_READS.test(url) && !isChange(request));
  if ((config.scoped ?? usual) || config.role === 'anybody') return;
  refuseScope(request, placeOf(request));
}

/** Rejects whoever has a scope with `forbidden`: `what` is not narrowed by it. */
export function refuseScope({ actor: { name, scope } }: FastifyRequest, what: string): void {
  if (scope === '') return;
  throw new TidemarkError(
    'forbidden',
    `'${name}' has the scope '${scope}', and ${what} is about more than volumes with such labels. Ask an admin for ` +
      'a token without a scope.',
  );
}

/** Of who is refused the log tells, as nothing else does. */
function refuse(request: FastifyRequest, reply: FastifyReply, error: unknown): never {
  if (error instanceof TidemarkError && error.code !== 'catalog-unavailable') {
    const { ip: remoteAddress, method } = request;
    request.log.info(
      { code: error.code, remoteAddress, method, route: request.routeOptions.url },
      'access refused',
    );
    if (error.code === 'unauthenticated') reply.header('www-authenticate', 'Bearer realm="tidemark"');
  }
  throw error;
}

export const access = fastifyPlugin<AccessOptions>(
  async (app, { needsToken, bootstrapToken }) => {
    const tokens = new TokenService({
      ...{ catalog: app.catalog, bootstrapToken, needsToken },
      now: () => new Date(),
    });
    app.decorate('tokens', tokens);
    app.decorateRequest('actor');
    app.decorateRequest('current');
    app.addHook('onRoute', (route: RouteOptions) => {
      if (OPEN_PATHS.test(route.url)) route.config = { ...route.config, role: 'anybody' };
    });
    const actorOf = (request: FastifyRequest): Actor | Promise<Actor> => {
      if (request.is404 || request.routeOptions.config.role === 'anybody') return NOBODY;
      const { authorization } = request.headers;
      return needsToken || authorization !== undefined ? tokens.authenticate(authorization) : LOCAL_ACTOR;
    };
    app.addHook('onRequest', async (request, reply) => {
      request.actor = NOBODY;
      try {
        request.actor = await actorOf(request);
        request.current = new CurrentRequest(request.actor);
        if (request.is404) return;
        requireRole(request);
        requireScope(request);
      } catch (error) {
        refuse(request, reply, error);
      }
    });
    // Not earlier: what follows the reading of a body belongs to the connection.
    app.addHook('preValidation', (request, _reply, done) => withRequest(request.current, done));
  },
  { name: 'access', dependencies: ['catalog'] },
);
