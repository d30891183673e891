// Answers every failure with a problem document, and logs those that are the service's own.
import { TidemarkError } from '@tidemark/proto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import fastifyPlugin from 'fastify-plugin';
import { type ProblemPlace, toProblem } from '../errors.ts';
import { PROBLEM_TYPE } from '../schemas/problem.ts';

const placeOf = (request: FastifyRequest): ProblemPlace => ({
  instance: request.url.split('?')[0] ?? request.url,
  requestId: request.id,
});

/** For failures of routes, and for those that come before any route is found. */
export function answerError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const problem = toProblem(error, placeOf(request));
  if (problem.code === 'internal-error') request.log.error({ err: error }, 'request failed');
  else if (problem.status >= 500) request.log.warn({ err: error, code: problem.code }, 'request refused');
  return reply.code(problem.status).type(PROBLEM_TYPE).send(problem);
}

export const errorHandler = fastifyPlugin(
  async app => {
    app.setErrorHandler(answerError);
    app.setNotFoundHandler((request, reply) => {
      const path = placeOf(request).instance;
      const text =
        `There is nothing at ${request.method} ${path}. The calls that exist are ` +
        'listed at /docs and /openapi.json.';
      return answerError(new TidemarkError('route-not-found', text), request, reply);
    });
  },
  { name: 'error-handler' },
);
