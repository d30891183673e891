// The settings of the api service, read once from the environment by main.ts.
import {
  addressSetting,
  apiTlsSettings,
  CATALOG_SECRETS,
  databaseUrlSetting,
  FLEET_SECRET,
  fleetTlsSettings,
  formatHostPort,
  isLoopback,
  killPointsSetting,
  logLevelSetting,
  openApiTls,
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

const environment = z
  .object({
    TIDEMARK_DATABASE_URL: databaseUrlSetting,
    TIDEMARK_DATABASE_PASSWORD: z.string().optional(),
    TIDEMARK_QUEUE_URL: queueUrlSetting,
    TIDEMARK_FLEET_SECRET: secretSetting,
    ...fleetTlsSettings,
    ...apiTlsSettings,
    ...webhookKeySettings,
    TIDEMARK_API_ACCESS: z.enum(['open', 'tokens'], { error: 'must be open or tokens' }).default('open'),
    TIDEMARK_BOOTSTRAP_TOKEN: secretSetting,
    TIDEMARK_API_LISTEN: addressSetting('127.0.0.1:7400').prefault('127.0.0.1:7400'),
    TIDEMARK_METRICS_LISTEN: addressSetting('127.0.0.1:7402').optional(),
    TIDEMARK_KILL_POINTS: killPointsSetting,
    TIDEMARK_LOG_LEVEL: logLevelSetting,
  })
  .superRefine(({ TIDEMARK_API_ACCESS: access, TIDEMARK_API_LISTEN: listen }, context) => {
    if (access === 'tokens' || isLoopback(listen)) return;
    const message =
      `is open, and TIDEMARK_API_LISTEN ${formatHostPort(listen)} can be reached from other machines: set it to ` +
      'tokens, with a TIDEMARK_BOOTSTRAP_TOKEN for the first admin, or listen on 127.0.0.1';
    context.addIssue({ code: 'custom', path: ['TIDEMARK_API_ACCESS'], message });
  })
  .transform(env => ({
    ...env,
    TIDEMARK_DATABASE_URL: withPassword(env.TIDEMARK_DATABASE_URL, env.TIDEMARK_DATABASE_PASSWORD),
  }))
  .transform((env, context) => {
    const now = () => Date.now();
    const tls = openFleetTls(env, { purpose: 'client', now }, context);
    const https = openApiTls(env, { now }, context);
    return tls === null || https === null ? z.NEVER : { ...env, tls, https };
  })
  .transform(env => ({
    databaseUrl: env.TIDEMARK_DATABASE_URL,
    queueUrl: env.TIDEMARK_QUEUE_URL ?? env.TIDEMARK_DATABASE_URL,
    needsToken: env.TIDEMARK_API_ACCESS === 'tokens',
    bootstrapToken: env.TIDEMARK_BOOTSTRAP_TOKEN,
    fleetSecret: env.TIDEMARK_FLEET_SECRET,
    tls: env.tls,
    https: env.https,
    webhookKeys: webhookKeys(env),
    listen: env.TIDEMARK_API_LISTEN,
    metricsListen: env.TIDEMARK_METRICS_LISTEN,
    killPoints: env.TIDEMARK_KILL_POINTS,
    logLevel: env.TIDEMARK_LOG_LEVEL,
  }));

export type Config = Readonly<z.output<typeof environment>>;

/** Throws `SettingsError`, which names every faulty variable. */
export function readConfig(env: Readonly<Record<string, string | undefined>>): Config {
  return readSettings(environment, env, [
    ...CATALOG_SECRETS,
    ...WEBHOOK_KEYS,
    FLEET_SECRET,
    'TIDEMARK_BOOTSTRAP_TOKEN',
  ]);
}
