// The settings of the worker, read once from the environment by main.ts.

import { AUDIT_LOG_DAYS_MIN } from '@tidemark/catalog';
import {
  addressSetting,
  CATALOG_SECRETS,
  databaseUrlSetting,
  FLEET_SECRET,
  fleetTlsSettings,
  killPointsSetting,
  logLevelSetting,
  openFleetTls,
  queueUrlSetting,
  readSettings,
  secretSetting,
  WEBHOOK_KEYS,
  webhookKeySettings,
  webhookKeys,
  withPassword,
} from '@tidemark/proto';
import { z } from 'zod';
import { LEASE_MS_MAX, LEASE_MS_MIN, WORKER_LIMITS } from './limits.ts';
import { DIFFERENCE_KINDS, isDifferenceKind } from './reconcile/found-difference.ts';

const DAY_MS = 86_400_000;

/** Milliseconds between two times; 0: never by itself. */
const rhythm = (otherwise: number, leastMs: number) =>
  z.coerce
    .number('must be a number')
    .int('must be a whole number')
    .refine(ms => ms === 0 || ms >= leastMs, `must be 0, or at least ${leastMs}`)
    .default(otherwise);

/** Names of differences with commas between them; `all` stands for every one. */
const reportOnly = z
  .string()
  .default('')
  .transform(text => text.split(',').map(word => word.trim()))
  .transform(words =>
    words.includes('all') ? Object.keys(DIFFERENCE_KINDS) : words.filter(word => word !== ''),
  )
  .refine(words => words.every(isDifferenceKind), {
    error: issue => {
      const unknown = (issue.input as string[]).filter(word => !isDifferenceKind(word)).join(', ');
      const names = Object.keys(DIFFERENCE_KINDS).join(', ');
      return `holds ${unknown}, which names no difference; give some of: ${names}`;
    },
  });

const environment = z
  .object({
    TIDEMARK_DATABASE_URL: databaseUrlSetting,
    TIDEMARK_DATABASE_PASSWORD: z.string().optional(),
    TIDEMARK_QUEUE_URL: queueUrlSetting,
    TIDEMARK_FLEET_SECRET: secretSetting,
    ...fleetTlsSettings,
    ...webhookKeySettings,
    TIDEMARK_WORKER_CONCURRENCY: z.coerce
      .number('must be a number')
      .int('must be a whole number')
      .min(1, 'must be at least 1')
      // Each run keeps a lease in the catalog and streams from storage nodes; more workers scale further.
      .max(64, 'must be at most 64')
      .default(8),
    TIDEMARK_HEALTH_LISTEN: addressSetting('127.0.0.1:7401').optional(),
    TIDEMARK_METRICS_LISTEN: addressSetting('127.0.0.1:7403').optional(),
    TIDEMARK_WORKER_LEASE_MS: z.coerce
      .number('must be a number')
      .int('must be a whole number')
      .min(LEASE_MS_MIN, `must be at least ${LEASE_MS_MIN}`)
      .max(LEASE_MS_MAX, `must be at most ${LEASE_MS_MAX}`)
      .default(WORKER_LIMITS.leaseMs),
    TIDEMARK_RECONCILE_INTERVAL_MS: rhythm(WORKER_LIMITS.reconcileMs, 10_000),
    TIDEMARK_RECONCILE_REPORT_ONLY: reportOnly,
    TIDEMARK_AUDIT_INTERVAL_MS: rhythm(WORKER_LIMITS.auditMs, 60_000),
    TIDEMARK_AUDIT_SAMPLE_BYTES: z.coerce
      .number('must be a number')
      .int('must be a whole number')
      .min(0, 'must be at least 0, which means all')
      .default(WORKER_LIMITS.auditSampleBytes),
    TIDEMARK_WORKER_RETRY_MAX_MS: z.coerce
      .number('must be a number')
      .int('must be a whole number')
      .min(WORKER_LIMITS.retryDelayMs, `must be at least ${WORKER_LIMITS.retryDelayMs}`)
      .default(WORKER_LIMITS.retryDelayMaxMs),
    TIDEMARK_REPLICATION_RETRY_MS: z.coerce
      .number('must be a number')
      .int('must be a whole number')
      .min(1_000, 'must be at least 1000')
      .max(WORKER_LIMITS.replicationRetryMaxMs, `must be at most ${WORKER_LIMITS.replicationRetryMaxMs}`)
      .default(WORKER_LIMITS.replicationRetryMs),
    TIDEMARK_TARGET_AWAY_MS: z.coerce
      .number('must be a number')
      .int('must be a whole number')
      .min(0, 'must be at least 0')
      .default(WORKER_LIMITS.targetAwayMs),
    TIDEMARK_EVENT_RETENTION_DAYS: z.coerce
      .number('must be a number')
      .min(0, 'must be at least 0, which keeps them for ever')
      .max(36_500, 'must be at most 36500')
      .default(WORKER_LIMITS.eventRetentionMs / DAY_MS),
    TIDEMARK_RUN_RETENTION_DAYS: z.coerce
      .number('must be a number')
      // An answer that is kept for its idempotency key names a run for a day.
      .max(36_500, 'must be at most 36500')
      .refine(days => days === 0 || days >= 2, 'must be 0, which keeps them for ever, or at least 2')
      .default(WORKER_LIMITS.runRetentionMs / DAY_MS),
    TIDEMARK_AUDIT_LOG_RETENTION_DAYS: z.coerce
      .number('must be a number')
      .max(36_500, 'must be at most 36500')
      .refine(
        days => days === 0 || days >= AUDIT_LOG_DAYS_MIN,
        `must be 0, which keeps it for ever, or at least ${AUDIT_LOG_DAYS_MIN}`,
      )
      .default(WORKER_LIMITS.auditLogRetentionMs / DAY_MS),
    TIDEMARK_KILL_POINTS: killPointsSetting,
    TIDEMARK_LOG_LEVEL: logLevelSetting,
  })
  .transform(env => ({
    ...env,
    TIDEMARK_DATABASE_URL: withPassword(env.TIDEMARK_DATABASE_URL, env.TIDEMARK_DATABASE_PASSWORD),
  }))
  .transform((env, context) => {
    const tls = openFleetTls(env, { purpose: 'client', now: () => Date.now() }, context);
    return tls === null ? z.NEVER : { ...env, tls };
  })
  .transform(env => ({
    databaseUrl: env.TIDEMARK_DATABASE_URL,
    queueUrl: env.TIDEMARK_QUEUE_URL ?? env.TIDEMARK_DATABASE_URL,
    fleetSecret: env.TIDEMARK_FLEET_SECRET,
    tls: env.tls,
    webhookKeys: webhookKeys(env),
    concurrency: env.TIDEMARK_WORKER_CONCURRENCY,
    healthListen: env.TIDEMARK_HEALTH_LISTEN,
    metricsListen: env.TIDEMARK_METRICS_LISTEN,
    leaseMs: env.TIDEMARK_WORKER_LEASE_MS,
    reconcileMs: env.TIDEMARK_RECONCILE_INTERVAL_MS,
    reportOnly: env.TIDEMARK_RECONCILE_REPORT_ONLY,
    auditMs: env.TIDEMARK_AUDIT_INTERVAL_MS,
    auditSampleBytes: env.TIDEMARK_AUDIT_SAMPLE_BYTES,
    retryDelayMaxMs: env.TIDEMARK_WORKER_RETRY_MAX_MS,
    replicationRetryMs: env.TIDEMARK_REPLICATION_RETRY_MS,
    targetAwayMs: env.TIDEMARK_TARGET_AWAY_MS,
    eventRetentionMs: env.TIDEMARK_EVENT_RETENTION_DAYS * DAY_MS,
    runRetentionMs: env.TIDEMARK_RUN_RETENTION_DAYS * DAY_MS,
    auditLogRetentionMs: env.TIDEMARK_AUDIT_LOG_RETENTION_DAYS * DAY_MS,
    killPoints: env.TIDEMARK_KILL_POINTS,
    logLevel: env.TIDEMARK_LOG_LEVEL,
  }));

export type Config = Readonly<z.output<typeof environment>>;

/** Throws `SettingsError`, which names every faulty variable. */
export function readConfig(env: Readonly<Record<string, string | undefined>>): Config {
  return readSettings(environment, env, [...CATALOG_SECRETS, ...WEBHOOK_KEYS, FLEET_SECRET]);
}
