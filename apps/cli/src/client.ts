// The REST API as the command needs it: JSON in, JSON out, and failures in words.
import { ANSWER_MAX_MS, PAGE_ITEMS } from './limits.ts';

export type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE';
export type Query = Record<string, string | number | undefined>;

/** What the service said no with. */
export class ProblemFailure extends Error {
  readonly title: string;
  readonly code: string;
  readonly document: unknown;

  constructor(document: { title: string; detail: string; code: string }) {
    super(document.detail);
    this.name = 'ProblemFailure';
    this.title = document.title;
    this.code = document.code;
    this.document = document;
  }
}

/** Nobody answered, or somebody who does not speak this API. */
export class UnreachableFailure extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'UnreachableFailure';
  }
}

interface Page<T> {
  items: T[];
  nextCursor: string | null;
}

function isProblem(body: unknown): body is { title: string; detail: string; code: string } {
  return typeof body === 'object' && body !== null && 'code' in body && 'title' in body && 'detail' in body;
}

/** `undici` keeps the reason of a failed connection in the cause. */
function reasonOf(error: unknown): string {
  const cause = (error as { cause?: { code?: string; message?: string } }).cause;
  return cause?.code ?? cause?.message ?? (error instanceof Error ? error.message : String(error));
}

function searchOf(query: Query): string {
  const given = Object.entries(query).flatMap(([name, value]): [string, string][] =>
    value === undefined ? [] : [[name, String(value)]],
  );
  return given.length > 0 ? `?${new URLSearchParams(given)}` : '';
}

export class Client {
  readonly url: string;
  readonly #authorization: Record<string, string>;

  constructor(url: string, token?: string) {
    this.url = url.replace(/\/+$/, '');
    this.#authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
  }

  get<T>(path: string, query: Query = {}): Promise<T> {
    return this.#call('GET', path, { query });
  }

  post<T>(path: string, body?: object): Promise<T> {
    return this.#call('POST', path, { body });
  }

  patch<T>(path: string, body: object): Promise<T> {
    return this.#call('PATCH', path, { body });
  }

  /** The lines of a long answer, as they come; those of an answer that broke off end with a failure. */
  async *lines(path: string, query: Query = {}, accept = 'application/x-ndjson'): AsyncGenerator<string> {
    const url = `${this.url}${path}${searchOf(query)}`;
    const headers = { accept };
    // Only for its beginning: how long all of it takes is the reader's business.
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), ANSWER_MAX_MS);
    const answer = await this.#fetch(url, 'GET', undefined, { headers, signal: late.signal }).finally(() =>
      clearTimeout(timer),
    );
    if (!answer.ok || answer.body === null) {
      await this.#read(answer);
      return;
    }
    let rest = '';
    try {
      for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {
        const lines = `${rest}${text}`.split('\n');
        rest = lines.pop()!;
        yield* lines;
      }
    } catch (error) {
      throw this.#brokeOff(error);
    }
  }

  delete<T>(path: string): Promise<T> {
    return this.#call('DELETE', path, {});
  }

  /** One page when a limit or a cursor is given, otherwise the whole list. */
  async list<T>(path: string, query: Query = {}): Promise<Page<T>> {
    if (query.limit !== undefined || query.cursor !== undefined) return this.get(path, query);
    const items: T[] = [];
    let cursor: string | null | undefined;
    do {
      const page: Page<T> = await this.get(path, {
        ...query,
        limit: PAGE_ITEMS,
        cursor: cursor ?? undefined,
      });
      items.push(...page.items);
      cursor = page.nextCursor;
    } while (cursor !== null);
    return { items, nextCursor: null };
  }

  async #call<T>(
    method: Method,
    path: string,
    { query = {}, body }: { query?: Query; body?: object | undefined },
  ) {
    const answer = await this.#fetch(`${this.url}${path}${searchOf(query)}`, method, body);
    return this.#read<T>(answer);
  }

  #brokeOff(error: unknown): UnreachableFailure {
    return new UnreachableFailure(
      `The answer of ${this.url} broke off (${reasonOf(error)}). What was asked for may have been done: ` +
        'look before you try again.',
      error,
    );
  }

  async #read<T>(answer: Response): Promise<T> {
    const text = await answer.text().catch((error: unknown) => {
      throw this.#brokeOff(error);
    });
    let parsed: unknown;
    try {
      parsed = JSON.parse(text);
    } catch (error) {
      throw new UnreachableFailure(
        `${this.url} answered ${answer.status}, but not with JSON. Is this a Tidemark API? ` +
          'Check --url or TIDEMARK_URL.',
        error,
      );
    }
    if (answer.ok) return parsed as T;
    if (isProblem(parsed)) throw new ProblemFailure(parsed);
    throw new UnreachableFailure(
      `${this.url} answered ${answer.status} in a form that is not known. Check --url or TIDEMARK_URL.`,
    );
  }

  async #fetch(
    url: string,
    method: Method,
    body: object | undefined,
    more: RequestInit = { signal: AbortSignal.timeout(ANSWER_MAX_MS) },
  ): Promise<Response> {
    try {
      return await fetch(url, {
        method,
        ...more,
        ...(body && { body: JSON.stringify(body) }),
        headers: {
          ...this.#authorization,
          ...(body && { 'content-type': 'application/json' }),
          ...(more.headers as Record<string, string> | undefined),
        },
      });
    } catch (error) {
      throw new UnreachableFailure(
        `No Tidemark API answers at ${this.url} (${reasonOf(error)}). Start it with \`npm ` +
          'start`, or name another one with --url or TIDEMARK_URL.',
        error,
      );
    }
  }
}
