// Counts answers, and shows the metrics of the process at `/metrics`: at the api's address, or at one of their own.

import type { HostPort, HttpListener } from '@tidemark/proto';
import { startMetricsServer } from '@tidemark/proto';
import { ProcessMetrics } from '@tidemark/proto/metrics';
import type { FastifyReply, FastifyRequest } from 'fastify';
import fastifyPlugin from 'fastify-plugin';
import { REQUEST_BUCKETS_SECONDS } from '../limits.ts';

export interface MetricsOptions {
  /** Undefined: at the api's own address, for those who may read. */
  readonly listen: HostPort | undefined;
  /** With those of the runtime, which a process has once. */
  readonly runtime: boolean;
}

/** What the caller asked to wait for tells nothing of the service. */
function isWait(request: FastifyRequest): boolean {
  const { wait = 'accepted' } = (request.query ?? {}) as { wait?: string };
  return wait !== 'accepted';
}

export const metricsPlugin = fastifyPlugin<MetricsOptions>(
  async (app, { listen, runtime }) => {
    const metrics = new ProcessMetrics({
      failed: error => app.log.warn({ err: error }, 'metric not read'),
      runtime,
    });
    const requests = metrics.counter('tidemark_http_requests_total');
    const durations = metrics.histogram('tidemark_http_request_duration_seconds', REQUEST_BUCKETS_SECONDS);
    metrics.gauge('tidemark_event_streams', () => [[app.eventHub.streams]]);

    app.addHook('onResponse', async (request: FastifyRequest, reply: FastifyReply) => {
      // The pattern, never the path: there are as many series as routes.
      const route = request.routeOptions.url ?? 'none';
      const { method } = request;
      requests.inc({ method, route, status: reply.statusCode });
      if (reply.raw.getHeader('content-type') === 'text/event-stream' || isWait(request)) return;
      durations.observe({ method, route }, reply.elapsedTime / 1000);
    });

    if (listen === undefined) {
      app.get('/metrics', { schema: { hide: true } }, async (_request, reply) => {
        const { contentType, body } = await metrics.text();
        return reply.type(contentType).send(body);
      });
      return;
    }
    let server: Promise<HttpListener> | undefined;
    app.addHook('onListen', async () => {
      server = startMetricsServer({ listen, text: () => metrics.text() });
      app.log.info({ address: (await server).address }, 'metrics');
    });
    app.addHook('onClose', async () => (await server)?.close());
  },
  { name: 'metrics', dependencies: ['event-hub', 'access'] },
);
