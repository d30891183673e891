// The REST API with types: each path of its description, what it takes, what it answers; failures are thrown.
import { randomUUID } from 'node:crypto';
import createFetchClient, { type Client as FetchClient } from 'openapi-fetch';
import { isProblem, ProblemFailure, reasonOf, UnreachableFailure } from './failures.ts';
import type { paths } from './generated/api.ts';
import type { Answer, Init, InitArguments, ItemOf, ListPath, Method, PathOf } from './types.ts';

/** A service that has not begun to answer by then counts as away. */
const ANSWER_MAX_MS = 30_000;

/** The most that the API gives at once. */
const PAGE_ITEMS = 200;

export interface ClientOptions {
  /** Such as http://127.0.0.1:7400 */
  readonly url: string;
  /** An API token; left out where the API is open. */
  readonly token?: string | undefined;
  readonly fetch?: typeof fetch;
}

interface AnyInit {
  readonly params?: { readonly query?: Record<string, unknown>; readonly path?: Record<string, unknown> };
  readonly headers?: Record<string, string>;
}

/**
 * Methods throw `ProblemFailure` for what the API refuses and `UnreachableFailure` when no API answers. Every POST
 * carries an idempotency key of its own, unless one is given: what is sent again by the network is done once.
 */
export class TidemarkClient {
  readonly url: string;
  readonly #fetch: FetchClient<paths>;

  constructor({ url, token, fetch: fetcher = fetch }: ClientOptions) {
    this.url = url.replace(/\/+$/, '');
    this.#fetch = createFetchClient<paths>({
      baseUrl: this.url,
      fetch: request => fetcher(request),
      ...(token !== undefined && { headers: { authorization: `Bearer ${token}` } }),
    });
  }

  get<P extends PathOf<'get'>, I extends Init<P, 'get'>>(
    path: P,
    ...[init]: InitArguments<I>
  ): Promise<Answer<P, 'get'>> {
    return this.#call('get', path, init);
  }

  post<P extends PathOf<'post'>, I extends Init<P, 'post'>>(
    path: P,
    ...[init]: InitArguments<I>
  ): Promise<Answer<P, 'post'>> {
    return this.#call('post', path, withIdempotencyKey(init));
  }

  patch<P extends PathOf<'patch'>, I extends Init<P, 'patch'>>(
    path: P,
    ...[init]: InitArguments<I>
  ): Promise<Answer<P, 'patch'>> {
    return this.#call('patch', path, init);
  }

  delete<P extends PathOf<'delete'>, I extends Init<P, 'delete'>>(
    path: P,
    ...[init]: InitArguments<I>
  ): Promise<Answer<P, 'delete'>> {
    return this.#call('delete', path, init);
  }

  /** Everything of a list, page after page. */
  async *all<P extends ListPath, I extends Init<P, 'get'>>(
    path: P,
    ...[init]: InitArguments<I>
  ): AsyncGenerator<ItemOf<P>> {
    const { params = {}, ...rest } = (init ?? {}) as AnyInit;
    let cursor: string | null | undefined;
    do {
      const query = { limit: PAGE_ITEMS, ...params.query, ...(cursor && { cursor }) };
      const page: { items: ItemOf<P>[]; nextCursor: string | null } = await this.#call('get', path, {
        ...rest,
        params: { ...params, query },
      });
      yield* page.items;
      cursor = page.nextCursor;
    } while (cursor !== null);
  }

  /**
   * The lines of a long answer as they come, such as those of changed blocks (application/x-ndjson) or of events
   * (text/event-stream). An answer that breaks off ends with a failure.
   */
  async *lines<P extends PathOf<'get'>, I extends Init<P, 'get'>>(
    path: P,
    accept: string,
    ...[init]: InitArguments<I>
  ): AsyncGenerator<string> {
    const given = (init ?? {}) as AnyInit;
    const headers = { ...given.headers, accept };
    const body: ReadableStream<Uint8Array> = await this.#call('get', path, {
      ...given,
      headers,
      parseAs: 'stream',
    });
    let rest = '';
    try {
      for await (const text of body.pipeThrough(new TextDecoderStream())) {
        const lines = `${rest}${text}`.split('\n');
        rest = lines.pop()!;
        yield* lines;
      }
    } catch (error) {
      throw this.#brokeOff(error);
    }
  }

  async #call<T>(method: Method, path: string, init: unknown): Promise<T> {
    // The methods above have checked that path and init belong together.
    const call = this.#fetch.request as unknown as (
      method: Method,
      path: string,
      init: unknown,
    ) => Promise<{ data?: T; error?: unknown; response: Response }>;
    // Only for its beginning: how long all of a stream takes is the reader's business.
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), ANSWER_MAX_MS);
    let answer: Awaited<ReturnType<typeof call>>;
    try {
      answer = await call(method, path, { signal: late.signal, ...(init as object) });
    } catch (error) {
      throw error instanceof SyntaxError ? this.#notJson(error) : this.#unreachable(error);
    } finally {
      clearTimeout(timer);
    }
    const { data, error, response } = answer;
    if (response.ok) return data as T;
    if (isProblem(error)) throw new ProblemFailure(error, response.status);
    throw new UnreachableFailure(
      `${this.url} answered ${response.status} in a form that is not known. Is this a Tidemark API?`,
    );
  }

  #unreachable(error: unknown): UnreachableFailure {
    return new UnreachableFailure(`No Tidemark API answers at ${this.url} (${reasonOf(error)}).`, error);
  }

  #notJson(error: unknown): UnreachableFailure {
    return new UnreachableFailure(`${this.url} answered, but not with JSON. Is this a Tidemark API?`, error);
  }

  #brokeOff(error: unknown): UnreachableFailure {
    return new UnreachableFailure(
      `The answer of ${this.url} broke off (${reasonOf(error)}). What was asked for may have been done: ` +
        'look before you try again.',
      error,
    );
  }
}

function withIdempotencyKey(init: unknown): AnyInit {
  const given = (init ?? {}) as AnyInit;
  return { ...given, headers: { 'idempotency-key': randomUUID(), ...given.headers } };
}
