// The text of an API token: `tidemark_`, an id by which it is found, and 256 bits by chance. Only its hash is kept.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

const SECRET_BYTES = 32;
const PREFIX_BYTES = 8;
const PATTERN = /^tidemark_([0-9a-f]{16})_[A-Za-z0-9_-]{43}$/;

const ANYWHERE = /tidemark_[0-9a-f]{16}_[A-Za-z0-9_-]{43}/g;

/** A token that somebody put where it does not belong is not repeated. */
export const withoutTokens = (text: string): string => text.replaceAll(ANYWHERE, 'tidemark_(a token)');

export interface ParsedToken {
  /** No secret: stands in lists. */
  readonly prefix: string;
  readonly hash: string;
}

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

/** The one moment at which the text is known. */
export function newTokenText(): string {
  const prefix = randomBytes(PREFIX_BYTES).toString('hex');
  return `tidemark_${prefix}_${randomBytes(SECRET_BYTES).toString('base64url')}`;
}

/** Also of a text that operators made up: such a one is found by part of its hash, which tells nothing of it. */
export function parseToken(text: string): ParsedToken {
  const hash = sha256(text);
  return { prefix: PATTERN.exec(text)?.[1] ?? `x${hash.slice(0, 2 * PREFIX_BYTES)}`, hash };
}

/** Takes as long whether or not they are equal, and wherever they differ. Both are hexadecimal digits of one length. */
export function isSameHash(one: string, other: string): boolean {
  const [left, right] = [Buffer.from(one, 'hex'), Buffer.from(other, 'hex')];
  return left.length === right.length && timingSafeEqual(left, right);
}
