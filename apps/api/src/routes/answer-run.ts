// How every call that starts a run is answered: at once, or after the wait that the caller asked for.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { StartedRun } from '../runs/run-json.ts';
import type { RunJson, WaitQuery } from '../schemas/run.ts';

export interface RunAnswer<Noun extends object> {
  readonly started: StartedRun<Noun>;
  /** The noun as it is after the wait. */
  readonly refresh: () => Promise<Noun>;
  /** Where the finished noun is; absent when the run makes none. */
  readonly made?: string;
}

/**
 * Aborted when the connection of the answer closes. Fastify's `request.signal` listens to the request, whose
 * stream is over as soon as its body has been read.
 */
export function callerGone(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  if (reply.raw.destroyed) gone.abort();
  else reply.raw.once('close', () => gone.abort());
  return gone.signal;
}

/** The run's state decides: 202 while it goes on, 201 when it made something, otherwise 200. */
export async function answerRun<Noun extends object>(
  app: FastifyInstance,
  request: FastifyRequest,
  reply: FastifyReply,
  { started, refresh, made }: RunAnswer<Noun>,
): Promise<StartedRun<Noun>> {
  const query = request.query as WaitQuery;
  const location = `/v1/runs/${started.run.id}`;
  if (query.wait === 'accepted') {
    reply.code(202).header('location', location);
    return started;
  }
  const run: RunJson = await app.runs.waitFor(started.run, query, callerGone(reply));
  const atCheckpoint = query.wait === 'checkpoint' && run.checkpointAt !== null;
  if (atCheckpoint || run.state !== 'succeeded') reply.code(202).header('location', location);
  else if (made === undefined) reply.code(200);
  else reply.code(201).header('location', made);
  return { ...(await refresh()), run };
}
