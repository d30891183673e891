// The demo's way to the system: REST calls as any client makes them, and runs followed to their end.

import { setTimeout as delay } from 'node:timers/promises';
import type { Schema } from '@tidemark/client';
import { RUN_POLL_MS, RUN_TIMEOUT_MS } from './layout.ts';

export type Run = Schema<'Run'>;
export type Backup = Schema<'Backup'>;
export type Volume = Schema<'Volume'>;

/** `done`: answered when the run has ended; `checkpoint`: when its point in time is set. */
type Wait = 'accepted' | 'checkpoint' | 'done';

export class RestClient {
  readonly #url: string;
  readonly #signal: AbortSignal;
  readonly #authorization: Record<string, string>;

  /** `signal` ends every call. `token`: where the api needs one. */
  constructor(url: string, signal: AbortSignal, token?: string) {
    this.#url = url;
    this.#authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
    this.#signal = signal;
  }

  get<T>(path: string): Promise<T> {
    return this.#call('GET', path);
  }

  /** Starts a run; rejects with the problem when it is refused or, as far as it was waited for, failed. */
  post<T extends { run: Run }>(path: string, body: object | undefined, wait: Wait): Promise<T> {
    const query = wait === 'accepted' ? '' : `?wait=${wait}&waitTimeoutMs=${RUN_TIMEOUT_MS}`;
    return this.#call('POST', `${path}${query}`, body);
  }

  patch<T>(path: string, body: object): Promise<T> {
    return this.#call('PATCH', path, body);
  }

  /** Resolves with the run that succeeded; rejects when it failed, was cancelled, or is stuck. */
  async follow(id: string, onProgress: (run: Run) => void): Promise<Run> {
    const deadline = performance.now() + RUN_TIMEOUT_MS;
    for (;;) {
      const run = await this.get<Run>(`/v1/runs/${id}`);
      if (run.state === 'succeeded') return run;
      if (run.state === 'failed' || run.state === 'cancelled') {
        const why = run.error === null ? '' : `: ${run.error.message} (${run.error.code})`;
        throw new Error(`run ${run.id} (${run.kind}) ${run.state}${why}`);
      }
      if (performance.now() > deadline)
        throw new Error(`run ${run.id} (${run.kind}) does not come to an end`);
      onProgress(run);
      await delay(RUN_POLL_MS, undefined, { signal: this.#signal });
    }
  }

  async #call<T>(method: 'GET' | 'POST' | 'PATCH', path: string, body?: object): Promise<T> {
    const response = await fetch(`${this.#url}${path}`, {
      method,
      headers: { ...this.#authorization, ...(body && { 'content-type': 'application/json' }) },
      body: body === undefined ? null : JSON.stringify(body),
      signal: this.#signal,
    });
    const text = await response.text();
    if (response.ok) return JSON.parse(text) as T;
    throw new Error(`${method} ${path} was answered ${response.status}: ${problemOf(text)}`);
  }
}

/** Seconds that a run took, from its first step on. */
export function secondsOf(run: Run): number {
  return (Date.parse(run.finishedAt ?? '') - Date.parse(run.startedAt ?? '')) / 1000;
}

function problemOf(text: string): string {
  try {
    const { detail, code } = JSON.parse(text) as { detail?: string; code?: string };
    return detail === undefined ? text : `${detail} (${code})`;
  } catch {
    return text;
  }
}
