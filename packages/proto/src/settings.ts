// How every service reads its settings: once, from the environment, all faults told together. What more than
// one service is told has its schema here; each service's config.ts composes its own.
import { z } from 'zod';
import { type HostPort, PORT_MAX, parseHostPort } from './host-port.ts';

/** Thrown with one line a fault; afterwards nothing has been started. */
export class SettingsError extends Error {
  constructor(faults: readonly string[]) {
    super(`The settings are not usable:\n${faults.map(fault => `  ${fault}`).join('\n')}`);
    this.name = 'SettingsError';
  }
}

/**
 * The settings as the schema gives them, frozen. Variables that it does not name are ignored. Throws
 * `SettingsError`, which names every faulty variable.
 */
export function readSettings<T extends object>(
  schema: z.ZodType<T>,
  environment: Readonly<Record<string, string | undefined>>,
): Readonly<T> {
  const parsed = schema.safeParse(environment);
  if (parsed.success) return Object.freeze(parsed.data);
  throw new SettingsError(parsed.error.issues.map(issue => `${issue.path.join('.')} ${issue.message}`));
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
  .regex(/^postgres(ql)?:\/\//, 'must begin with postgres://');

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
