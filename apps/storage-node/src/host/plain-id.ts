// Ids are given by the api and become file names here: nothing but small letters, digits and dashes may
// reach a path.
import { TidemarkError } from '@tidemark/proto';

/** Wherever a text has one: texts that are told apart by what they are about, not by whom. */
export const ID = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g;

const PLAIN_ID = /^[0-9a-z][0-9a-z-]{0,63}$/;

export function isPlainId(text: string): boolean {
  return PLAIN_ID.test(text);
}

/** Returns the id; throws `invalid-request`. `what` names its owner, such as `backup`. */
export function checkId(text: string, what: string): string {
  if (isPlainId(text)) return text;
  throw new TidemarkError('invalid-request', `'${text}' is not an id of a ${what}; give a UUID.`);
}
