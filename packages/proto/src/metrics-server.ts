// Metrics on a listener of their own, for Prometheus: without tokens, to be kept within the operators' network.
import type { HostPort } from './host-port.ts';
import { type HttpListener, jsonAnswer, listenHttp } from './http-listener.ts';

export interface MetricsServerOptions {
  /** Port 0 takes any free one. */
  listen: HostPort;
  text: () => Promise<{ contentType: string; body: string }>;
}

/** Resolves when it listens. `GET /metrics` answers 200, or 500 with what went wrong; all else is 404. */
export function startMetricsServer({ listen, text }: MetricsServerOptions): Promise<HttpListener> {
  return listenHttp(listen, async path => {
    if (path !== '/metrics') return jsonAnswer(404, { status: 'not found' });
    try {
      return { status: 200, ...(await text()) };
    } catch (error) {
      return jsonAnswer(500, {
        status: 'failed',
        detail: error instanceof Error ? error.message : String(error),
      });
    }
  });
}
