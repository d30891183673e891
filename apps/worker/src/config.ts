// The settings of the worker, read once from the environment by main.ts.
import { z } from 'zod';

const environment = z
  .object({
    TIDEMARK_DATABASE_URL: z
      .string(
        'is not set; give the address of the catalog, for instance postgres://tidemark@127.0.0.1/tidemark',
      )
      .regex(/^postgres(ql)?:\/\//, 'must begin with postgres://'),
    TIDEMARK_QUEUE_URL: z
      .string()
      .regex(/^(rediss?|postgres(ql)?):\/\//, 'must begin with redis:// or postgres://')
      .optional(),
    TIDEMARK_WORKER_CONCURRENCY: z.coerce
      .number('must be a number')
      .int('must be a whole number')
      .min(1, 'must be at least 1')
      // Each run keeps a lease in the catalog and streams from storage nodes; more workers scale further.
      .max(64, 'must be at most 64')
      .default(8),
    TIDEMARK_HEALTH_LISTEN: z
      .string()
      .regex(/^(\[[0-9a-fA-F:]+\]|[^:[\]]+):\d{1,5}$/, 'must be host:port, for instance 127.0.0.1:7401')
      .optional(),
    TIDEMARK_LOG_LEVEL: z
      .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], {
        error: 'must be trace, debug, info, warn, error, fatal or silent',
      })
      .default('info'),
  })
  .transform(env =>
    Object.freeze({
      databaseUrl: env.TIDEMARK_DATABASE_URL,
      queueUrl: env.TIDEMARK_QUEUE_URL ?? env.TIDEMARK_DATABASE_URL,
      concurrency: env.TIDEMARK_WORKER_CONCURRENCY,
      healthListen: env.TIDEMARK_HEALTH_LISTEN,
      logLevel: env.TIDEMARK_LOG_LEVEL,
    }),
  );

export type Config = z.output<typeof environment>;

/** Reads the settings; throws one error that names every faulty one. */
export function readConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const parsed = environment.safeParse(env);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map(issue => `${issue.path.join('.')} ${issue.message}`);
  throw new Error(`The settings are not usable: ${faults.join('; ')}.`);
}
