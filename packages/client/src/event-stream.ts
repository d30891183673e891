// Events as they come: reads server-sent events, and goes on after the last one when the stream breaks off.
import type { TidemarkClient } from './client.ts';
import { ProblemFailure, UnreachableFailure } from './failures.ts';
import { FOLLOW_AGAIN_MS } from './limits.ts';
import type { Query, Schema } from './types.ts';

const PROGRESS_KIND = 'run.progress';
const UNAVAILABLE = 503;
/** What a stream may end with, and the status of a call that is refused so. */
const REFUSALS = new Map([
  ['events-pruned', { title: 'The events asked for are gone', status: 410 }],
  ['events-ahead', { title: 'The event is not there yet', status: 409 }],
  ['unauthenticated', { title: 'Nobody says who asks', status: 401 }],
]);

export type EventQuery = Omit<Query<'/v1/events'>, 'follow' | 'limit' | 'cursor' | 'order'>;
export type Told = { event: Schema<'Event'> } | { progress: Schema<'RunProgressEvent'> };

interface Message {
  kind: string;
  data: string;
}

export interface FollowOptions {
  /** Told of a stream that broke off and is asked for again. */
  readonly note?: (text: string) => void;
}

/**
 * Each event once, in order, for as long as they are read. Rejects with what the API says no with, and when it cannot
 * be reached at first.
 */
export async function* followEvents(
  client: TidemarkClient,
  query: EventQuery,
  { note = () => {} }: FollowOptions = {},
): AsyncGenerator<Told> {
  let seen: number | undefined;
  let hasBegun = false;
  for (;;) {
    const from = seen === undefined ? query : { ...query, after: seen, since: undefined };
    try {
      for await (const told of readStream(client, from, id => {
        seen = id;
        hasBegun = true;
      }))
        yield told;
      note('the stream ended; asking again');
    } catch (error) {
      if (!hasBegun || !passes(error)) throw error;
      note(`${error.message}\nasking again`);
    }
    await client.pause(FOLLOW_AGAIN_MS);
  }
}

/** Nobody answered, or an API whose catalog is away. */
function passes(error: unknown): error is Error {
  return (
    error instanceof UnreachableFailure || (error instanceof ProblemFailure && error.status === UNAVAILABLE)
  );
}

async function* readStream(
  client: TidemarkClient,
  query: EventQuery,
  saw: (id: number) => void,
): AsyncGenerator<Told> {
  const params = { query: { ...query, follow: 'true' as const } };
  let message: Message = { kind: '', data: '' };
  let id: number | undefined;
  for await (const line of client.lines('/v1/events', 'text/event-stream', { params })) {
    if (line !== '') {
      const [field, value] = parseField(line);
      if (field === 'event') message.kind = value;
      if (field === 'data') message.data += value;
      if (field === 'id') id = Number(value);
      continue;
    }
    if (message.data !== '') yield toldBy(message);
    // Only now: what broke off before its end comes again.
    if (id !== undefined) saw(id);
    message = { kind: '', data: '' };
  }
}

function parseField(line: string): [name: string, value: string] {
  const colon = line.indexOf(':');
  return colon < 0 ? [line, ''] : [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, '')];
}

function toldBy({ kind, data }: Message): Told {
  const parsed = JSON.parse(data);
  if (kind === PROGRESS_KIND) return { progress: parsed };
  const refusal = REFUSALS.get(kind);
  if (refusal !== undefined) throw new ProblemFailure({ title: refusal.title, ...parsed }, refusal.status);
  return { event: parsed };
}
