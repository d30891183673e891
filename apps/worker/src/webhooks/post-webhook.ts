// Sends one body to one address: bounded in time and in what it reads, without following redirects, and never to an
// address that webhooks are not sent to, whatever the name resolves to at that moment.
import { lookup } from 'node:dns';
import { type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import type { LookupFunction } from 'node:net';
import { isRefusedAddress, webhookUrlFault } from '@tidemark/proto';
import { WEBHOOK_ANSWER_BYTES_MAX } from '../limits.ts';

export interface PostAnswer {
  /** Null when there was none. */
  readonly status: number | null;
  /** What went wrong, in a line; null for an answer from 200 to 299. */
  readonly fault: string | null;
}

export interface Post {
  readonly url: string;
  readonly body: string;
  readonly headers: Readonly<Record<string, string>>;
  /** For all of it, from looking the name up to the end of the answer. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

const lookupAllowed: LookupFunction = (hostname, options, done) => {
  lookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error) return done(error, '', 0);
    const allowed = addresses.filter(({ address }) => !isRefusedAddress(address));
    const [first] = allowed;
    if (first === undefined)
      return done(new Error('it leads to an address that no webhook is sent to'), '', 0);
    // With `all`, the socket tries them in turn, as it would have without us.
    if (options.all) (done as unknown as (error: null, all: typeof allowed) => void)(null, allowed);
    else done(null, first.address, first.family);
  });
};

/** Resolves with what came of it; rejects only when `signal` aborts, with its reason. */
export async function postWebhook(post: Post): Promise<PostAnswer> {
  const fault = webhookUrlFault(post.url);
  if (fault !== null) return { status: null, fault: `the address ${fault}` };
  try {
    const answer = await send(post);
    const status = answer.statusCode ?? 0;
    if (status >= 200 && status < 300) return { status, fault: null };
    const where = status >= 300 && status < 400 ? '; redirects are not followed' : '';
    return { status, fault: `answered ${status}${where}` };
  } catch (error) {
    post.signal?.throwIfAborted();
    const { code, message } = error as NodeJS.ErrnoException;
    return { status: null, fault: code ?? message };
  }
}

function send({ url, body, headers, timeoutMs, signal }: Post): Promise<IncomingMessage> {
  const request = url.startsWith('https:') ? requestHttps : requestHttp;
  return new Promise((resolve, reject) => {
    const bytes = Buffer.from(body);
    const late = setTimeout(() => sent.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    const sent = request(
      url,
      {
        method: 'POST',
        headers: { ...headers, 'content-length': bytes.length },
        lookup: lookupAllowed,
        // One connection each: nothing is kept open for an endpoint that may be called once a day.
        agent: false,
        ...(signal && { signal }),
      },
      answer => {
        let read = 0;
        answer.on('data', (chunk: Buffer) => {
          read += chunk.length;
          // Its status is all that counts.
          if (read > WEBHOOK_ANSWER_BYTES_MAX) finish(answer);
        });
        answer.on('end', () => finish(answer));
        answer.on('error', fail);
      },
    );
    const finish = (answer: IncomingMessage) => {
      clearTimeout(late);
      resolve(answer);
      sent.destroy();
    };
    const fail = (error: Error) => {
      clearTimeout(late);
      reject(error);
    };
    sent.on('error', fail);
    sent.end(bytes);
  });
}
