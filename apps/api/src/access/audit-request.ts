// A request as the audit log keeps it: bounded, and without what nobody may read there.
import type { Json, JsonObject } from '@tidemark/catalog';
import { AUDIT_REQUEST_CHARACTERS_MAX } from '../limits.ts';
import { withoutTokens } from './api-token.ts';

const SECRET_NAMES = /secret|token|password|passphrase|authorization|credential/i;
const HIDDEN = '(not kept)';
/** Of an address such as https://user:password@host. */
const USER_INFO = /^([a-z][a-z0-9+.-]*:\/\/)[^/@\s]+@/i;

function withoutSecrets(value: Json): Json {
  if (typeof value === 'string') return withoutTokens(value.replace(USER_INFO, `$1${HIDDEN}@`));
  if (Array.isArray(value)) return value.map(withoutSecrets);
  if (value === null || typeof value !== 'object') return value;
  const entries = Object.entries(value).map(([name, part]): [string, Json] => {
    const isText = typeof part === 'string' && part !== '';
    return [name, isText && SECRET_NAMES.test(name) ? HIDDEN : withoutSecrets(part)];
  });
  return Object.fromEntries(entries) as JsonObject;
}

/** Null: there is none, or it is too large to keep. */
export function auditedBody(body: unknown): Json {
  if (body === undefined || body === null) return null;
  const kept = withoutSecrets(JSON.parse(JSON.stringify(body)) as Json);
  return JSON.stringify(kept).length > AUDIT_REQUEST_CHARACTERS_MAX ? null : kept;
}
