// What the filters of lists have in common: names become ids, and texts become moments.
import { isId } from '@tidemark/catalog';

interface Named {
  get(ref: string): Promise<{ id: string }>;
}

/** Ids are not looked up: what they were about may be gone, and its runs and backups are still there. */
export async function idOf(ref: string | undefined, nouns: Named): Promise<string | undefined> {
  if (ref === undefined || isId(ref)) return ref?.toLowerCase();
  return (await nouns.get(ref)).id;
}

export const momentOf = (text: string | undefined): Date | undefined =>
  text === undefined ? undefined : new Date(text);
