// Calls to the api as a patient client makes them: an answer may not come, because somebody is being killed.
import { setTimeout as delay } from 'node:timers/promises';
import { POLL_MS, REQUEST_TIMEOUT_MS, SETTLE_MS } from './limits.ts';

export interface RunJson {
  readonly id: string;
  readonly kind: string;
  readonly state: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled';
  readonly checkpointAt: string | null;
  /** Why a backup is full or incremental. */
  readonly reason: string | null;
  readonly result: Record<string, unknown> | null;
  readonly error: { readonly code: string; readonly message: string } | null;
}

/** `status` 0: nobody knows what became of the request. */
export interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: as many shapes as there are routes
  readonly body: any;
}

export type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE';

export class Rest {
  readonly #urls: readonly string[];
  #next = 0;

  /** Of every api of one installation: each call goes to another, and to the next where nobody is there. */
  constructor(urls: readonly string[]) {
    this.#urls = urls;
  }

  /** With a `key` it is carried out once, however often and wherever it is sent. */
  async call(method: Method, path: string, body?: object, key?: string): Promise<Answer> {
    for (let asked = 1; ; asked += 1) {
      this.#next = (this.#next + 1) % this.#urls.length;
      const url = `${this.#urls[this.#next]}/v1/${path}`;
      const answer = await callOne(url, { method, body, key });
      if (answer.body.code !== 'nobody-there' || asked === this.#urls.length) return answer;
    }
  }

  /** Reads until there is an answer. Rejects when the answer is a problem, or none comes in time. */
  async read(path: string): Promise<Answer['body']> {
    const deadline = performance.now() + SETTLE_MS;
    for (;;) {
      const { status, body } = await this.call('GET', path);
      if (status === 200) return body;
      const passes = status === 0 || status === 503;
      if (!passes || performance.now() > deadline) throw new Error(`GET ${path}: ${status} ${body.detail}`);
      await delay(POLL_MS);
    }
  }

  /** All pages. */
  async list(path: string): Promise<Answer['body'][]> {
    const items: Answer['body'][] = [];
    const separator = path.includes('?') ? '&' : '?';
    let cursor: string | null = null;
    do {
      const more: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;
      const page = await this.read(`${path}${separator}limit=100${more}`);
      items.push(...page.items);
      cursor = page.nextCursor;
    } while (cursor !== null);
    return items;
  }

  /** Rejects when it is refused or does not succeed: for what is set up while nobody is killed. */
  async make(path: string, body: object): Promise<Answer['body']> {
    const answer = await this.call('POST', `${path}?wait=done&waitTimeoutMs=${SETTLE_MS}`, body);
    if (answer.status < 300 && answer.status > 0) return answer.body;
    throw new Error(`POST ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  }

  /** Undefined when it is not known to have ended by the deadline. */
  async follow(
    id: string,
    onChange: (run: RunJson) => void,
    patienceMs = SETTLE_MS,
  ): Promise<RunJson | undefined> {
    const deadline = performance.now() + patienceMs;
    while (performance.now() < deadline) {
      const { status, body } = await this.call('GET', `runs/${id}`);
      if (status === 200) {
        onChange(body);
        if (body.state !== 'queued' && body.state !== 'running') return body;
      }
      await delay(POLL_MS);
    }
    return undefined;
  }
}

async function callOne(
  url: string,
  { method, body, key }: { method: Method; body: object | undefined; key: string | undefined },
): Promise<Answer> {
  const headers = {
    ...(body && { 'content-type': 'application/json' }),
    ...(key !== undefined && { 'idempotency-key': key }),
  };
  try {
    const response = await fetch(url, {
      method,
      headers,
      ...(body && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
    });
    return { status: response.status, body: await response.json() };
  } catch (error) {
    // Refused at the door: certainly not carried out.
    const { cause } = error as { cause?: { code?: string } };
    const code = cause?.code === 'ECONNREFUSED' ? 'nobody-there' : 'no-answer';
    return { status: 0, body: { code, detail: String(error) } };
  }
}
