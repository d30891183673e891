// A tiny HTTP server for services that otherwise speak no HTTP: answers one at a time, keeps no connection.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { formatHostPort, type HostPort } from './host-port.ts';

export interface HttpListener {
  /** host:port it listens on. */
  readonly address: string;
  close(): Promise<void>;
}

export interface TextAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

/** Resolves when it listens; port 0 takes any free one. `answer` is asked for GET and HEAD, and must not reject. */
export async function listenHttp(
  listen: HostPort,
  answer: (path: string) => Promise<TextAnswer>,
): Promise<HttpListener> {
  const server = createServer(async (request, response) => {
    const reads = request.method === 'GET' || request.method === 'HEAD';
    const { status, contentType, body } = await answer(reads ? (request.url ?? '') : '');
    response.writeHead(status, { 'content-type': contentType, connection: 'close' });
    response.end(request.method === 'HEAD' ? undefined : body);
  });
  const { host } = listen;
  server.listen(listen.port, host);
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

export function jsonAnswer(status: number, body: object): TextAnswer {
  return { status, contentType: 'application/json', body: `${JSON.stringify(body)}\n` };
}
