// One call at a time: sent, waited for within bounds, and every way to fail told apart.
import createFetchClient, { type Client as FetchClient } from 'openapi-fetch';
import {
  distrustOf,
  isProblem,
  LostAnswerFailure,
  mayHaveArrived,
  ProblemFailure,
  reasonOf,
  speaksNoTls,
  UnreachableFailure,
} from './failures.ts';
import type { paths } from './generated/api.ts';
import { fetchTrusting } from './https-fetch.ts';
import { ANSWER_MAX_MS, WAIT_DEFAULT_MS } from './limits.ts';
import type { Method } from './types.ts';

export interface ClientOptions {
  /** Such as http://127.0.0.1:7400 or https://tidemark.example */
  readonly url: string;
  /** Of an address with https: the CA (PEM) that is trusted, instead of the system's. */
  readonly ca?: string | undefined;
  /** An API token; left out where the API is open. */
  readonly token?: string | undefined;
  readonly fetch?: typeof fetch;
  /** Ends every call, which then rejects with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** What the user of this client can do about it, said at the end of the message. */
  readonly advice?: {
    /** Nobody answers. */
    readonly nobody: string;
    /** Somebody answers who is no Tidemark API. */
    readonly stranger: string;
    /** Its certificate is not to be trusted. */
    readonly untrusted?: string;
  };
}

/** What all calls have in common; which of it a path takes, `Init` knows. */
export interface AnyInit {
  readonly params?: { readonly query?: Record<string, unknown>; readonly path?: Record<string, unknown> };
  readonly headers?: Record<string, string>;
  readonly signal?: AbortSignal;
}

type AnyCall = (
  method: Method,
  path: string,
  init: object,
) => Promise<{ data?: unknown; error?: unknown; response: Response }>;

export class Connection {
  readonly url: string;
  readonly #fetch: FetchClient<paths>;
  readonly #signal: AbortSignal | undefined;
  readonly #advice: NonNullable<ClientOptions['advice']>;

  constructor(options: ClientOptions) {
    const { url, token, ca, signal, advice = { nobody: '', stranger: '' } } = options;
    this.url = url.replace(/\/+$/, '');
    const { fetch: fetcher = ca !== undefined && this.#isHttps ? fetchTrusting(ca) : fetch } = options;
    this.#signal = signal;
    this.#advice = advice;
    this.#fetch = createFetchClient<paths>({
      baseUrl: this.url,
      fetch: request => fetcher(request).catch((error: unknown) => Promise.reject(this.#unreachable(error))),
      ...(token !== undefined && { headers: { authorization: `Bearer ${token}` } }),
    });
  }

  get #isHttps(): boolean {
    return /^https:/i.test(this.url);
  }

  /** The answer, out of JSON. */
  async call<T>(method: Method, path: string, init: AnyInit): Promise<T> {
    const { data, status } = await this.#ask<string>(method, path, { ...init, parseAs: 'text' });
    try {
      return JSON.parse(data ?? '');
    } catch (error) {
      throw this.#notJson(status, error);
    }
  }

  /** The lines of an answer as they come. */
  async *lines(path: string, init: AnyInit): AsyncGenerator<string> {
    const { data } = await this.#ask<ReadableStream<Uint8Array>>('get', path, { ...init, parseAs: 'stream' });
    let rest = '';
    try {
      for await (const text of data!.pipeThrough(new TextDecoderStream())) {
        const lines = `${rest}${text}`.split('\n');
        rest = lines.pop()!;
        yield* lines;
      }
    } catch (error) {
      this.#signal?.throwIfAborted();
      throw this.#brokeOff(error);
    }
  }

  async #ask<T>(
    method: Method,
    path: string,
    init: AnyInit & { parseAs: 'text' | 'stream' },
  ): Promise<{ data?: T; status: number }> {
    // The client's methods have checked that path and init belong together.
    const call = this.#fetch.request as unknown as AnyCall;
    // Only for the beginning of a stream: how long all of it takes is the reader's business.
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), answerMaxMs(init));
    const ended = [this.#signal, init.signal].filter(signal => signal !== undefined);
    let answer: Awaited<ReturnType<AnyCall>>;
    try {
      answer = await call(method, path, { ...init, signal: AbortSignal.any([late.signal, ...ended]) });
    } catch (error) {
      for (const signal of ended) signal.throwIfAborted();
      throw error instanceof UnreachableFailure ? error : this.#brokeOff(error);
    } finally {
      clearTimeout(timer);
    }
    const { data, error, response } = answer;
    const { ok, status } = response;
    if (ok) return { data: data as T, status };
    if (isProblem(error)) throw new ProblemFailure(error, status);
    // What cannot be read as JSON is handed over as text.
    if (typeof error !== 'object') throw this.#notJson(status);
    throw this.#stranger(`answered ${status} in a form that is not known.`);
  }

  #unreachable(error: unknown): UnreachableFailure {
    if (mayHaveArrived(error)) return this.#brokeOff(error);
    const distrust = this.#isHttps ? distrustOf(error) : undefined;
    if (distrust !== undefined) {
      const said = `${this.url} is not trusted: ${distrust} (${reasonOf(error)}).`;
      return new UnreachableFailure(`${said} ${this.#advice.untrusted ?? ''}`.trim(), error);
    }
    if (this.#isHttps && speaksNoTls(error)) {
      return this.#stranger('speaks no TLS: an API without it has an address with http://.', error);
    }
    const text = `No Tidemark API answers at ${this.url} (${reasonOf(error)}). ${this.#advice.nobody}`;
    return new UnreachableFailure(text.trim(), error);
  }

  #notJson(status: number, cause?: unknown): UnreachableFailure {
    return this.#stranger(`answered ${status}, but not with JSON. Is this a Tidemark API?`, cause);
  }

  #stranger(what: string, cause?: unknown): UnreachableFailure {
    return new UnreachableFailure(`${this.url} ${what} ${this.#advice.stranger}`.trim(), cause);
  }

  #brokeOff(error: unknown): LostAnswerFailure {
    const https = this.#isHttps ? '' : ' An API with TLS has an address with https://.';
    return new LostAnswerFailure(
      `The answer of ${this.url} broke off (${reasonOf(error)}). What was asked for may have been done: ` +
        `look before you try again.${https}`,
      error,
    );
  }
}

/** A call that waits for its run is answered when that has ended. */
function answerMaxMs({ params }: AnyInit): number {
  const { wait = 'accepted', waitTimeoutMs = WAIT_DEFAULT_MS } = params?.query ?? {};
  return wait === 'accepted' ? ANSWER_MAX_MS : ANSWER_MAX_MS + Number(waitTimeoutMs);
}
