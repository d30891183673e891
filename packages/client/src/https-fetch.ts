// `fetch` for an API whose certificate is of a CA of its own: the built-in one takes no CA for one caller alone.
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { Readable } from 'node:stream';

/** No body belongs to these. */
const EMPTY: ReadonlySet<number> = new Set([204, 205, 304]);

/**
 * Like `fetch` of a `Request` to an address with `https:`, and rejects as that does, with the reason as `cause`. Trusts
 * `ca` (PEM) and nobody else. Follows no redirects, of which the API has none.
 */
export function fetchTrusting(ca: string): (request: Request) => Promise<Response> {
  return async request => {
    const { method, url, signal } = request;
    const body = request.body === null ? undefined : Buffer.from(await request.arrayBuffer());
    const headers = {
      ...Object.fromEntries(request.headers),
      // Not left to the client of HTTP: with some methods it sends a body without saying where it ends.
      ...(body !== undefined && { 'content-length': body.length }),
    };
    try {
      const sent = httpsRequest(url, { method, headers, ca, signal });
      sent.end(body);
      const [answer] = (await once(sent, 'response')) as [IncomingMessage];
      return toResponse(answer);
    } catch (error) {
      throw new TypeError('fetch failed', { cause: error });
    }
  };
}

function toResponse(answer: IncomingMessage): Response {
  const { statusCode: status = 0, headersDistinct } = answer;
  const headers = Object.entries(headersDistinct).flatMap(([name, values = []]) =>
    values.map((value): [string, string] => [name, value]),
  );
  if (!EMPTY.has(status)) {
    return new Response(Readable.toWeb(answer) as ReadableStream<Uint8Array>, { status, headers });
  }
  answer.resume();
  return new Response(null, { status, headers });
}
