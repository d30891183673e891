// The settings of the api service, read once from the environment by main.ts.
import { z } from 'zod';

const LISTEN = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+)):(\d{1,5})$/;

const listenAddress = z
  .string()
  .regex(LISTEN, 'must be host:port, for instance 127.0.0.1:7400')
  .transform(text => {
    const [, v6, host, port] = LISTEN.exec(text) ?? [];
    return { host: v6 ?? host ?? '', port: Number(port) };
  })
  .refine(({ port }) => port <= 65_535, 'has a port above 65535');

const databaseUrl = z
  .string('is not set; give the address of the catalog, for instance postgres://tidemark@127.0.0.1/tidemark')
  .regex(/^postgres(ql)?:\/\//, 'must begin with postgres://');

const environment = z
  .object({
    TIDEMARK_DATABASE_URL: databaseUrl,
    TIDEMARK_QUEUE_URL: z
      .string()
      .regex(/^(rediss?|postgres(ql)?):\/\//, 'must begin with redis:// or postgres://')
      .optional(),
    TIDEMARK_API_LISTEN: listenAddress.prefault('127.0.0.1:7400'),
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
      listen: Object.freeze(env.TIDEMARK_API_LISTEN),
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
