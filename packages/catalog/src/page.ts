// Keyset pages over (created_at, id): stable while rows come and go.
import { CatalogError } from './errors.ts';

export interface PageOptions {
  /** 1 to 1000; 100 unless told. */
  limit?: number | undefined;
  /** `nextCursor` of the page before. */
  cursor?: string | null | undefined;
}

export interface Page<T> {
  items: T[];
  nextCursor: string | null;
}

/** One answer has to stay small beside a process's memory. */
export const PAGE_ITEMS_MAX = 1000;
const PAGE_ITEMS_DEFAULT = 100;

interface Keyed {
  id: string;
  createdAt: Date;
}

type Direction = 'asc' | 'desc';

/**
 * Arguments of a Prisma `findMany` for the page, in the order of `moment`; add them to `where` with AND. Rejects
 * `invalid-cursor`.
 */
export function pageQuery<M extends string = 'createdAt'>(
  options: PageOptions,
  direction: Direction,
  moment: M = 'createdAt' as M,
) {
  const limit = Math.min(Math.max(options.limit ?? PAGE_ITEMS_DEFAULT, 1), PAGE_ITEMS_MAX);
  const key = options.cursor ? decodeCursor(options.cursor) : null;
  const beyond = direction === 'asc' ? 'gt' : 'lt';
  const after = key && {
    OR: [{ [moment]: { [beyond]: key.createdAt } }, { [moment]: key.createdAt, id: { [beyond]: key.id } }],
  };
  return {
    key,
    after: after ?? {},
    // One more than asked for tells whether there is a next page.
    take: limit + 1,
    limit,
    orderBy: [{ [moment]: direction } as { [K in M]: Direction }, { id: direction }],
  };
}

/** For `where`: moments from `since` on and before `until`, as far as these are given. */
export function between<M extends string>(moment: M, since?: Date, until?: Date) {
  if (since === undefined && until === undefined) return {};
  const range = { ...(since && { gte: since }), ...(until && { lt: until }) };
  return { [moment]: range } as { [K in M]: typeof range };
}

/** For `where`: names that hold the text, as far as one is given. */
export function nameHolds(text: string | undefined): { name?: { contains: string } } {
  // What stands for other characters in a pattern stands for itself here.
  return text === undefined ? {} : { name: { contains: text.replaceAll(/[\\%_]/g, '\\$&') } };
}

export function toPage<Row extends Keyed, T>(rows: Row[], limit: number, map: (row: Row) => T): Page<T> {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  const more = rows.length > limit && last !== undefined;
  return { items: shown.map(map), nextCursor: more ? encodeCursor(last) : null };
}

/** The pages of a list, one after the other. */
export async function* pagesOf<T>(
  list: (options: { cursor: string | null }) => Promise<Page<T>>,
): AsyncGenerator<T[]> {
  let cursor: string | null = null;
  do {
    const page: Page<T> = await list({ cursor });
    yield page.items;
    cursor = page.nextCursor;
  } while (cursor !== null);
}

function encodeCursor(key: Keyed): string {
  return Buffer.from(`${key.createdAt.getTime()}/${key.id}`).toString('base64url');
}

/** The end of the year 9999, up to which all layers write moments alike. */
const CURSOR_MS_MAX = Date.UTC(10_000, 0, 1) - 1;
const CURSOR = /^(\d{1,15})\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/;

function decodeCursor(cursor: string): Keyed {
  const match = CURSOR.exec(Buffer.from(cursor, 'base64url').toString('utf8'));
  if (!match || Number(match[1]) > CURSOR_MS_MAX) {
    throw new CatalogError(
      'catalog',
      'invalid-cursor',
      `The cursor '${cursor}' is not one this list gave out. Start again without a cursor.`,
    );
  }
  return { createdAt: new Date(Number(match[1])), id: match[2]! };
}
