// Health checks of services that otherwise speak no HTTP.
import type { HostPort } from './host-port.ts';
import { type HttpListener, jsonAnswer, listenHttp } from './http-listener.ts';

export type HealthServer = HttpListener;

export interface HealthServerOptions {
  /** Port 0 takes any free one. */
  listen: HostPort;
  /** Rejects, or throws, while the service cannot do its work. */
  check: () => void | Promise<void>;
}

/** Resolves when it listens. `GET /healthz` answers 200, or 503 with what the check said; all else is 404. */
export function startHealthServer({ listen, check }: HealthServerOptions): Promise<HealthServer> {
  return listenHttp(listen, async path => {
    if (path !== '/healthz') return jsonAnswer(404, { status: 'not found' });
    try {
      await check();
      return jsonAnswer(200, { status: 'ok' });
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      return jsonAnswer(503, { status: 'unavailable', detail });
    }
  });
}
