// Follows a run to its end, and says of one that has ended whether that was a good end.
import type { TidemarkClient } from './client.ts';
import { RunFailure } from './failures.ts';
import { WATCH_FIRST_MS, WATCH_GROWTH, WATCH_MAX_MS } from './limits.ts';
import type { Schema } from './types.ts';

type Run = Schema<'Run'>;

export const hasEnded = ({ state }: Run): boolean => state !== 'queued' && state !== 'running';

/** The run as it is at each look, the given one first and the one that has ended last. */
export async function* looksAt(client: TidemarkClient, started: Run): AsyncGenerator<Run> {
  let run = started;
  yield run;
  for (
    let pauseMs = WATCH_FIRST_MS;
    !hasEnded(run);
    pauseMs = Math.min(pauseMs * WATCH_GROWTH, WATCH_MAX_MS)
  ) {
    await client.pause(pauseMs);
    run = await client.get('/v1/runs/{run}', { params: { path: { run: started.id } } });
    yield run;
  }
}

/** Passes a run that has succeeded, or goes on; throws the `RunFailure` of any other. */
export function requireSuccess({ id, kind, state, ending, error }: Run): void {
  if (state === 'cancelled') {
    const detail = ending ?? `The ${kind} run ${id} was cancelled.`;
    throw new RunFailure({ title: 'The run was cancelled', detail, code: 'run-cancelled' });
  }
  if (state !== 'failed') return;
  const { code, message } = error ?? { code: 'internal-error', message: 'It left no reason.' };
  throw new RunFailure({ title: `The ${kind} run ${id} failed`, detail: message, code });
}
