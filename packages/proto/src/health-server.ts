// A tiny HTTP server for health checks of services that otherwise speak no HTTP.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { formatHostPort, type HostPort } from './host-port.ts';

export interface HealthServer {
  /** host:port it listens on. */
  readonly address: string;
  close(): Promise<void>;
}

export interface HealthServerOptions {
  /** Port 0 takes any free one. */
  listen: HostPort;
  /** Rejects, or throws, while the service cannot do its work. */
  check: () => void | Promise<void>;
}

/** Resolves when it listens. `GET /healthz` answers 200, or 503 with what the check said; all else is 404. */
export async function startHealthServer(options: HealthServerOptions): Promise<HealthServer> {
  const server = createServer(async (request, response) => {
    const known = request.url === '/healthz' && (request.method === 'GET' || request.method === 'HEAD');
    const [status, body] = known ? await health(options.check) : [404, { status: 'not found' }];
    response.writeHead(status, { 'content-type': 'application/json', connection: 'close' });
    response.end(request.method === 'HEAD' ? undefined : `${JSON.stringify(body)}\n`);
  });
  const { host } = options.listen;
  server.listen(options.listen.port, host);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    address: formatHostPort({ host, port }),
    close: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

async function health(
  check: () => void | Promise<void>,
): Promise<[number, { status: string; detail?: string }]> {
  try {
    await check();
    return [200, { status: 'ok' }];
  } catch (error) {
    return [503, { status: 'unavailable', detail: error instanceof Error ? error.message : String(error) }];
  }
}
