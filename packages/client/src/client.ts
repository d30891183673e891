// The REST API with types: each path of its description, what it takes, what it answers; failures are thrown.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type AnyInit, type ClientOptions, Connection } from './connection.ts';
import { LostAnswerFailure, ProblemFailure, UnreachableFailure } from './failures.ts';
import { PAGE_ITEMS, RESEND_FIRST_MS, RESEND_GROWTH, RESEND_MAX } from './limits.ts';
import type { Answer, InitArguments, ItemOf, ListPath, Page, PathOf } from './types.ts';

/**
 * Methods throw `ProblemFailure` for what the API refuses and `UnreachableFailure` when no API answers. Every POST
 * carries an idempotency key of its own, unless one is given: when its answer is lost it is sent again, and done once.
 */
export class TidemarkClient {
  readonly #connection: Connection;
  readonly #signal: AbortSignal | undefined;

  constructor(options: ClientOptions) {
    this.#connection = new Connection(options);
    this.#signal = options.signal;
  }

  get url(): string {
    return this.#connection.url;
  }

  get<P extends PathOf<'get'>>(path: P, ...[init]: InitArguments<P, 'get'>): Promise<Answer<P, 'get'>> {
    return this.#connection.call('get', path, given(init));
  }

  async post<P extends PathOf<'post'>>(
    path: P,
    ...[init]: InitArguments<P, 'post'>
  ): Promise<Answer<P, 'post'>> {
    const headers = { 'idempotency-key': randomUUID(), ...given(init).headers };
    let lost: LostAnswerFailure | undefined;
    for (let count = 0; ; count += 1) {
      try {
        return await this.#connection.call('post', path, { ...given(init), headers });
      } catch (error) {
        if (error instanceof LostAnswerFailure) lost ??= error;
        if (lost === undefined || !mayBeAnswered(error)) throw error;
        // Where nobody answers any more, the first failure is the one that counts: it may have been done.
        if (count === RESEND_MAX) throw lost;
      }
      await this.pause(RESEND_FIRST_MS * RESEND_GROWTH ** count);
    }
  }

  /** Rejects, as calls do, with the reason of the signal that ends them. */
  async pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#signal }).catch(() => this.#signal?.throwIfAborted());
  }

  patch<P extends PathOf<'patch'>>(
    path: P,
    ...[init]: InitArguments<P, 'patch'>
  ): Promise<Answer<P, 'patch'>> {
    return this.#connection.call('patch', path, given(init));
  }

  delete<P extends PathOf<'delete'>>(
    path: P,
    ...[init]: InitArguments<P, 'delete'>
  ): Promise<Answer<P, 'delete'>> {
    return this.#connection.call('delete', path, given(init));
  }

  /** Everything of a list, page after page. */
  all<P extends ListPath>(path: P, ...[init]: InitArguments<P, 'get'>): AsyncGenerator<ItemOf<P>> {
    return this.#all(path, given(init));
  }

  /** One page where the query has a limit or a cursor, otherwise the whole list. */
  async list<P extends ListPath>(path: P, ...[init]: InitArguments<P, 'get'>): Promise<Page<ItemOf<P>>> {
    const { limit, cursor } = given(init).params?.query ?? {};
    if (limit !== undefined || cursor !== undefined) return this.#connection.call('get', path, given(init));
    const items: ItemOf<P>[] = [];
    for await (const item of this.#all<ItemOf<P>>(path, given(init))) items.push(item);
    return { items, nextCursor: null };
  }

  /**
   * The lines of a long answer as they come, such as those of events (text/event-stream). An answer that breaks off
   * ends with a failure.
   */
  lines<P extends PathOf<'get'>>(
    path: P,
    accept: string,
    ...[init]: InitArguments<P, 'get'>
  ): AsyncGenerator<string> {
    return this.#lines(path, accept, given(init));
  }

  /** The items of a long answer (application/x-ndjson) as they come. One that breaks off ends with a failure. */
  async *jsonLines<P extends PathOf<'get'>>(
    path: P,
    ...[init]: InitArguments<P, 'get'>
  ): AsyncGenerator<Answer<P, 'get', 'application/x-ndjson'>> {
    for await (const line of this.#lines(path, 'application/x-ndjson', given(init))) yield JSON.parse(line);
  }

  #lines(path: string, accept: string, init: AnyInit): AsyncGenerator<string> {
    return this.#connection.lines(path, { ...init, headers: { ...init.headers, accept } });
  }

  async *#all<T>(path: string, { params = {}, ...rest }: AnyInit): AsyncGenerator<T> {
    let cursor: string | null | undefined;
    do {
      const { limit = PAGE_ITEMS, ...filter } = params.query ?? {};
      const query = { limit, ...filter, ...(cursor && { cursor }) };
      const init = { ...rest, params: { ...params, query } };
      const page: Page<T> = await this.#connection.call('get', path, init);
      yield* page.items;
      cursor = page.nextCursor;
    } while (cursor !== null);
  }
}

/** Of a POST that was sent again: nobody was there, or is at it still. */
function mayBeAnswered(error: unknown): boolean {
  if (error instanceof ProblemFailure) return error.code === 'idempotency-key-busy';
  return error instanceof UnreachableFailure;
}

const given = (init: unknown): AnyInit => init ?? {};
