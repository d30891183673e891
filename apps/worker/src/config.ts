// The settings of the worker, read once from the environment by main.ts.
import {
  addressSetting,
  databaseUrlSetting,
  killPointsSetting,
  logLevelSetting,
  queueUrlSetting,
  readSettings,
} from '@tidemark/proto';
import { z } from 'zod';
import { LEASE_MS_MAX, LEASE_MS_MIN, WORKER_LIMITS } from './limits.ts';

const environment = z
  .object({
    TIDEMARK_DATABASE_URL: databaseUrlSetting,
    TIDEMARK_QUEUE_URL: queueUrlSetting,
    TIDEMARK_WORKER_CONCURRENCY: z.coerce
      .number('must be a number')
      .int('must be a whole number')
      .min(1, 'must be at least 1')
      // Each run keeps a lease in the catalog and streams from storage nodes; more workers scale further.
      .max(64, 'must be at most 64')
      .default(8),
    TIDEMARK_HEALTH_LISTEN: addressSetting('127.0.0.1:7401').optional(),
    TIDEMARK_WORKER_LEASE_MS: z.coerce
      .number('must be a number')
      .int('must be a whole number')
      .min(LEASE_MS_MIN, `must be at least ${LEASE_MS_MIN}`)
      .max(LEASE_MS_MAX, `must be at most ${LEASE_MS_MAX}`)
      .default(WORKER_LIMITS.leaseMs),
    TIDEMARK_KILL_POINTS: killPointsSetting,
    TIDEMARK_LOG_LEVEL: logLevelSetting,
  })
  .transform(env => ({
    databaseUrl: env.TIDEMARK_DATABASE_URL,
    queueUrl: env.TIDEMARK_QUEUE_URL ?? env.TIDEMARK_DATABASE_URL,
    concurrency: env.TIDEMARK_WORKER_CONCURRENCY,
    healthListen: env.TIDEMARK_HEALTH_LISTEN,
    leaseMs: env.TIDEMARK_WORKER_LEASE_MS,
    killPoints: env.TIDEMARK_KILL_POINTS,
    logLevel: env.TIDEMARK_LOG_LEVEL,
  }));

export type Config = Readonly<z.output<typeof environment>>;

/** Throws `SettingsError`, which names every faulty variable. */
export function readConfig(env: Readonly<Record<string, string | undefined>>): Config {
  return readSettings(environment, env);
}
