// The settings of the api service, read once from the environment by main.ts.
import {
  addressSetting,
  CATALOG_SECRETS,
  databaseUrlSetting,
  FLEET_SECRET,
  killPointsSetting,
  logLevelSetting,
  queueUrlSetting,
  readSettings,
  secretSetting,
  withPassword,
} from '@tidemark/proto';
import { z } from 'zod';

const environment = z
  .object({
    TIDEMARK_DATABASE_URL: databaseUrlSetting,
    TIDEMARK_DATABASE_PASSWORD: z.string().optional(),
    TIDEMARK_QUEUE_URL: queueUrlSetting,
    TIDEMARK_FLEET_SECRET: secretSetting,
    TIDEMARK_API_LISTEN: addressSetting('127.0.0.1:7400').prefault('127.0.0.1:7400'),
    TIDEMARK_KILL_POINTS: killPointsSetting,
    TIDEMARK_LOG_LEVEL: logLevelSetting,
  })
  .transform(env => ({
    ...env,
    TIDEMARK_DATABASE_URL: withPassword(env.TIDEMARK_DATABASE_URL, env.TIDEMARK_DATABASE_PASSWORD),
  }))
  .transform(env => ({
    databaseUrl: env.TIDEMARK_DATABASE_URL,
    queueUrl: env.TIDEMARK_QUEUE_URL ?? env.TIDEMARK_DATABASE_URL,
    fleetSecret: env.TIDEMARK_FLEET_SECRET,
    listen: env.TIDEMARK_API_LISTEN,
    killPoints: env.TIDEMARK_KILL_POINTS,
    logLevel: env.TIDEMARK_LOG_LEVEL,
  }));

export type Config = Readonly<z.output<typeof environment>>;

/** Throws `SettingsError`, which names every faulty variable. */
export function readConfig(env: Readonly<Record<string, string | undefined>>): Config {
  return readSettings(environment, env, [...CATALOG_SECRETS, FLEET_SECRET]);
}
