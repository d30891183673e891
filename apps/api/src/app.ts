// Builds the service; listening is main.ts's.
import { randomUUID } from 'node:crypto';
import type { Server } from 'node:https';
import type { FleetKeys, PassPoint, TlsFiles } from '@tidemark/proto';
import Fastify, { type FastifyInstance, type FastifyServerOptions, LogController } from 'fastify';
import { serializerCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod';
import { BODY_BYTES_MAX } from './limits.ts';
import { access } from './plugins/access.ts';
import { auditLog } from './plugins/audit-log.ts';
import { catalogPlugin } from './plugins/catalog.ts';
import { answerError, errorHandler } from './plugins/error-handler.ts';
import { etags } from './plugins/etags.ts';
import { eventHubPlugin } from './plugins/event-hub.ts';
import { idempotency } from './plugins/idempotency.ts';
import { liveFactsPlugin } from './plugins/live-facts.ts';
import { type MetricsOptions, metricsPlugin } from './plugins/metrics.ts';
import { openapi } from './plugins/openapi.ts';
import { queuePlugin } from './plugins/queue.ts';
import { services } from './plugins/services.ts';
import { healthRoutes } from './routes/health.ts';
import { auditLogRoutes } from './routes/v1/audit-log.ts';
import { auditRoutes } from './routes/v1/audits.ts';
import { backupRoutes } from './routes/v1/backups.ts';
import { changeRoutes } from './routes/v1/changes.ts';
import { checkpointRoutes } from './routes/v1/checkpoints.ts';
import { commitRoutes } from './routes/v1/commits.ts';
import { differenceRoutes } from './routes/v1/differences.ts';
import { eventRoutes } from './routes/v1/events.ts';
import { exportRoutes } from './routes/v1/exports.ts';
import { groupRoutes } from './routes/v1/groups.ts';
import { joinTokenRoutes } from './routes/v1/join-tokens.ts';
import { policyRoutes } from './routes/v1/policies.ts';
import { replicationRoutes } from './routes/v1/replications.ts';
import { repositoryRoutes } from './routes/v1/repositories.ts';
import { restoreRoutes } from './routes/v1/restores.ts';
import { retentionRoutes } from './routes/v1/retention.ts';
import { runRoutes } from './routes/v1/runs.ts';
import { snapshotRoutes } from './routes/v1/snapshots.ts';
import { storageNodeCareRoutes } from './routes/v1/storage-node-care.ts';
import { storageNodeRoutes } from './routes/v1/storage-nodes.ts';
import { tokenRoutes } from './routes/v1/tokens.ts';
import { verificationRoutes } from './routes/v1/verifications.ts';
import { volumeRoutes } from './routes/v1/volumes.ts';
import { webhookRoutes } from './routes/v1/webhooks.ts';
import { validatorCompiler } from './validation.ts';

/** The keys are what storage nodes ask of those who ask them. */
export interface AppOptions extends FleetKeys {
  readonly databaseUrl: string;
  readonly queueUrl: string;
  /** Served over HTTPS with this certificate; undefined: HTTP. */
  readonly https?: TlsFiles | undefined;
  /** Seal secrets of webhooks: the one in use first, then those from before. None: webhooks cannot be added. */
  readonly webhookKeys?: readonly string[] | undefined;
  /** Whether callers need a token; otherwise whoever reaches the service is an admin. */
  readonly needsToken?: boolean | undefined;
  /** Lets the first admin in. */
  readonly bootstrapToken?: string | undefined;
  /** Where metrics are shown; by default at `/metrics`, without those of the runtime. */
  readonly metrics?: MetricsOptions | undefined;
  /** Told between any two durable steps of a request. */
  readonly pass?: PassPoint | undefined;
  readonly logger?: FastifyServerOptions['logger'];
}

const V1 = [
  joinTokenRoutes,
  storageNodeRoutes,
  storageNodeCareRoutes,
  volumeRoutes,
  checkpointRoutes,
  changeRoutes,
  snapshotRoutes,
  commitRoutes,
  groupRoutes,
  repositoryRoutes,
  verificationRoutes,
  backupRoutes,
  exportRoutes,
  restoreRoutes,
  retentionRoutes,
  replicationRoutes,
  policyRoutes,
  runRoutes,
  eventRoutes,
  webhookRoutes,
  differenceRoutes,
  auditRoutes,
  tokenRoutes,
  auditLogRoutes,
];

/**
 * A connection that is busy when the service stops is kept alive by its answer, and the service would wait
 * for it to be given up. So the answers of these last moments end their connections.
 */
function closeConnectionsAtTheEnd(app: FastifyInstance): void {
  let closing = false;
  app.addHook('preClose', async () => {
    closing = true;
  });
  app.addHook('onSend', async (_request, reply) => {
    if (closing) reply.header('connection', 'close');
  });
}

/** `localhost` may have several addresses; Fastify makes a server of each, and shows the first alone. */
function serversOf(app: FastifyInstance): Server[] {
  const others = Object.getOwnPropertySymbols(app).find(
    ({ description }) => description === 'fastify.serverBindings',
  );
  const bindings = others && (app as unknown as Record<symbol, Server[]>)[others];
  return [app.server as Server, ...(bindings ?? [])];
}

/** Connections from then on are served with the renewed certificate. */
function followRenewals(app: FastifyInstance, https: TlsFiles | undefined): void {
  const stop = https?.onChange(({ cert, key }) => {
    for (const server of serversOf(app)) server.setSecureContext({ cert, key });
  });
  app.addHook('onClose', async () => stop?.());
}

/** Ready for requests, without a connection to the catalog or the queue yet. `close` ends it all. */
export async function buildApp(options: AppOptions): Promise<FastifyInstance> {
  const app = Fastify({
    logger: options.logger ?? false,
    bodyLimit: BODY_BYTES_MAX,
    // State changes are logged where they happen; a line for every request would drown them.
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'requestId' }),
    genReqId: () => randomUUID(),
    frameworkErrors: answerError,
    // A kept connection without a request must not hold up the end.
    forceCloseConnections: 'idle',
    https: options.https === undefined ? null : options.https.material,
  }).withTypeProvider<ZodTypeProvider>();
  closeConnectionsAtTheEnd(app as unknown as FastifyInstance);
  followRenewals(app as unknown as FastifyInstance, options.https);
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  await app.register(errorHandler);
  await app.register(catalogPlugin, { url: options.databaseUrl });
  const { needsToken = false, bootstrapToken } = options;
  await app.register(access, { needsToken, bootstrapToken });
  // In the order in which they look at an answer: the last to change it comes first.
  await app.register(etags);
  await app.register(idempotency);
  await app.register(auditLog);
  await app.register(queuePlugin, { url: options.queueUrl });
  await app.register(liveFactsPlugin, { fleetSecret: options.fleetSecret, tls: options.tls });
  await app.register(eventHubPlugin, { databaseUrl: options.databaseUrl });
  await app.register(metricsPlugin, options.metrics ?? { listen: undefined, runtime: false });
  await app.register(services, { pass: options.pass, webhookKeys: options.webhookKeys ?? [] });
  await app.register(openapi);
  await app.register(healthRoutes);
  for (const routes of V1) await app.register(routes, { prefix: '/v1' });
  await app.ready();
  return app as unknown as FastifyInstance;
}
