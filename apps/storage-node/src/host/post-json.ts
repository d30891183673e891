// One request of JSON, over HTTP or HTTPS, whose answer is JSON as well.
import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { text } from 'node:stream/consumers';

/**
 * `ca` (PEM) is trusted instead of the system's. A body that is no JSON is undefined.
 * Rejects when nobody answers.
 */
export async function postJson(
  url: URL,
  body: object,
  { ca, signal }: { ca?: Buffer | undefined; signal: AbortSignal },
): Promise<{ status: number; body: unknown }> {
  const sent = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', connection: 'close' },
    signal,
    ...(ca !== undefined && { ca }),
  });
  sent.end(JSON.stringify(body));
  const [answer] = (await once(sent, 'response')) as [IncomingMessage];
  const said = await text(answer);
  return { status: answer.statusCode ?? 0, body: parsed(said) };
}

function parsed(said: string): unknown {
  try {
    return JSON.parse(said);
  } catch {
    return undefined;
  }
}
