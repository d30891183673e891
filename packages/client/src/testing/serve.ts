// A server of one test: it notes what it is asked, and answers as told.
import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

interface Asked {
  method: string;
  url: string;
  headers: IncomingHttpHeaders;
  body: string;
}

interface Reply {
  status?: number;
  type?: string;
  body?: string;
  /** After the body's beginning. */
  cut?: boolean;
  /** Before anything is answered. */
  drop?: boolean;
}

/** Gone when the test has finished. */
export async function serve(replies: Reply[]): Promise<{ url: string; asked: Asked[] }> {
  const asked: Asked[] = [];
  const listener: RequestListener = async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    asked.push({ method: request.method!, url: request.url!, headers: request.headers, body });
    const reply = replies.shift() ?? { status: 500, body: 'no reply is left' };
    if (reply.drop) return response.destroy();
    response.writeHead(reply.status ?? 200, { 'content-type': reply.type ?? 'application/json' });
    response.write(reply.body ?? '{}');
    if (reply.cut) setImmediate(() => response.destroy());
    else response.end();
  };
  const server = createServer(listener).listen(0, '127.0.0.1');
  await new Promise(resolve => server.once('listening', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}
