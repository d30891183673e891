// How every service reads its settings: once, from the environment, all faults told together. What more than
// one service is told has its schema here; each service's config.ts composes its own.
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { type HostPort, PORT_MAX, parseHostPort } from './host-port.ts';

/** Thrown with one line a fault; afterwards nothing has been started. */
export class SettingsError extends Error {
  constructor(faults: readonly string[]) {
    super(`The settings are not usable:\n${faults.map(fault => `  ${fault}`).join('\n')}`);
    this.name = 'SettingsError';
  }
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The settings as the schema gives them, frozen. Variables that it does not name are ignored. Each of `secrets` may
 * stand in a file instead, which the variable with `_FILE` behind its name tells: an environment is easily seen by
 * others. Throws `SettingsError`, which names every faulty variable and never says what a secret is.
 */
export function readSettings<T extends object>(
  schema: z.ZodType<T>,
  environment: Environment,
  secrets: readonly string[] = [],
): Readonly<T> {
  const faults: string[] = [];
  const parsed = schema.safeParse(readSecretFiles(environment, secrets, faults));
  if (parsed.success && faults.length === 0) return Object.freeze(parsed.data);
  const issues = parsed.error?.issues.map(issue => `${issue.path.join('.')} ${issue.message}`) ?? [];
  throw new SettingsError([...faults, ...issues]);
}

/**
 * What `read` gives. When it throws `SettingsError` its lines are all that the process says: it ends with code 2 before
 * it has started anything.
 */
export function settingsOrExit<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(2);
  }
}

/** The line break at the end, which editors put there, is none of the secret. */
function readSecretFiles(
  environment: Environment,
  secrets: readonly string[],
  faults: string[],
): Environment {
  const read: Record<string, string> = {};
  for (const name of secrets) {
    const path = environment[`${name}_FILE`];
    if (path === undefined) continue;
    if (environment[name] !== undefined)
      faults.push(`${name} and ${name}_FILE are both set; give one of them`);
    try {
      read[name] = readFileSync(path, 'utf8').replace(/\r?\n$/, '');
    } catch (error) {
      faults.push(`${name}_FILE cannot be read: ${(error as Error).message}`);
    }
  }
  return { ...environment, ...read };
}

/** An address to listen on or to be reached at. */
export function addressSetting(example: string) {
  return z.string().transform((text, context): HostPort => {
    const address = parseHostPort(text);
    if (address !== undefined) return Object.freeze(address);
    const message =
      `must be host:port with a port of at most ${PORT_MAX}, for instance ${example}; ` + `it is '${text}'`;
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  });
}

export const databaseUrlSetting = z
  .string('is not set; give the address of the catalog, for instance postgres://tidemark@127.0.0.1/tidemark')
  .regex(/^postgres(ql)?:\/\//, 'must begin with postgres://')
  .refine(text => URL.canParse(text), 'must be an address, such as postgres://tidemark@127.0.0.1/tidemark');

/** What every service that knows the catalog may be told in files. */
export const CATALOG_SECRETS = ['TIDEMARK_DATABASE_URL', 'TIDEMARK_DATABASE_PASSWORD', 'TIDEMARK_QUEUE_URL'];

/** What storage nodes ask of those who command them; it may stand in a file. */
export const FLEET_SECRET = 'TIDEMARK_FLEET_SECRET';

const SECRET_CHARACTERS_MIN = 32;

/** Nobody may guess it. */
export const secretSetting = z
  .string()
  .min(SECRET_CHARACTERS_MIN, `must have at least ${SECRET_CHARACTERS_MIN} characters: openssl rand -hex 32`)
  .regex(/^[\x21-\x7e]*$/, 'must be printable ASCII without spaces: openssl rand -hex 32')
  .optional();

/** Keys that seal secrets of webhooks: what each process that keeps or uses them has to be given. */
export const webhookKeySettings = {
  TIDEMARK_WEBHOOK_KEY: secretSetting,
  TIDEMARK_WEBHOOK_KEY_PREVIOUS: secretSetting,
};
export const WEBHOOK_KEYS: readonly string[] = Object.keys(webhookKeySettings);

/** The key in use first; then those that may have sealed what is there already. */
export function webhookKeys(env: {
  TIDEMARK_WEBHOOK_KEY?: string | undefined;
  TIDEMARK_WEBHOOK_KEY_PREVIOUS?: string | undefined;
  TIDEMARK_FLEET_SECRET?: string | undefined;
}): string[] {
  // Who is given a key of its own later goes on reading what was sealed with the fleet's secret.
  const keys = [env.TIDEMARK_WEBHOOK_KEY, env.TIDEMARK_FLEET_SECRET, env.TIDEMARK_WEBHOOK_KEY_PREVIOUS];
  return keys.filter(key => key !== undefined);
}

/** The address with that password in it, unless there is none to put in. */
export function withPassword(databaseUrl: string, password: string | undefined): string {
  if (password === undefined) return databaseUrl;
  const url = new URL(databaseUrl);
  url.password = encodeURIComponent(password);
  return url.href;
}

/** Without it the queue is in the catalog's database. */
export const queueUrlSetting = z
  .string()
  .regex(/^(rediss?|postgres(ql)?):\/\//, 'must begin with redis:// or postgres://')
  .optional();

export const logLevelSetting = z
  .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], {
    error: 'must be trace, debug, info, warn, error, fatal or silent',
  })
  .default('info');
