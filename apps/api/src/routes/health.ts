// Probes: is the process up, and does what it needs answer.
import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { ProblemError } from '../errors.ts';
import { READY_ANSWER_MAX_MS } from '../limits.ts';
import { healthSchema, readySchema } from '../schemas/health.ts';
import { problemsOfProbe } from '../schemas/problem.ts';
import { version } from '../version.ts';

const NEXT_STEP = {
  catalog: 'start the database, or check TIDEMARK_DATABASE_URL',
  queue: 'start the queue, or check TIDEMARK_QUEUE_URL (runs are accepted meanwhile, and start later)',
} as const;

async function answers(ping: Promise<void>): Promise<boolean> {
  const late = sleep(READY_ANSWER_MAX_MS, false, { ref: false });
  return Promise.race([ping.then(() => true).catch(() => false), late]);
}

export const healthRoutes: FastifyPluginAsyncZod = async app => {
  app.get(
    '/healthz',
    {
      config: { role: 'anybody' },
      schema: {
        tags: ['Health'],
        summary: 'The process is up',
        description: 'Asks nothing but the process itself.',
        response: { 200: healthSchema },
      },
    },
    async () => ({ status: 'up' as const, version }),
  );

  app.get(
    '/readyz',
    {
      config: { role: 'anybody' },
      schema: {
        tags: ['Health'],
        summary: 'The catalog and the queue answer',
        description: 'Otherwise 503 `not-ready`, and `missing` names what does not answer.',
        response: { 200: readySchema, ...problemsOfProbe('not-ready') },
      },
    },
    async () => {
      const [catalog, queue] = await Promise.all([answers(app.catalog.ping()), answers(app.runQueue.ping())]);
      const missing = [...(catalog ? [] : (['catalog'] as const)), ...(queue ? [] : (['queue'] as const))];
      if (missing.length === 0)
        return { status: 'ready' as const, catalog: 'up' as const, queue: 'up' as const };
      const steps = missing.map(name => `The ${name} does not answer: ${NEXT_STEP[name]}.`);
      throw new ProblemError('not-ready', steps.join(' '), { missing });
    },
  );
};
