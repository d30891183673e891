// Rows chosen by their labels: a selector as conditions of a statement, so that nobody reads all rows to find some.
import type { Selector, SelectorTerm } from '@tidemark/proto';
import { Prisma } from './generated/client.ts';
import { type PageOptions, pageQuery } from './page.ts';
import type { Db } from './scope.ts';

export type LabelledTable = 'storage_node' | 'volume' | 'repository';

const TABLES = {
  storage_node: Prisma.sql`storage_node`,
  volume: Prisma.sql`volume`,
  repository: Prisma.sql`repository`,
} as const satisfies Record<LabelledTable, Prisma.Sql>;

function condition(term: SelectorTerm): Prisma.Sql {
  if (term.op === 'exists') return Prisma.sql`labels ? ${term.key}`;
  if (term.op === 'absent') return Prisma.sql`NOT labels ? ${term.key}`;
  const any = Prisma.join(
    term.values.map(value => Prisma.sql`labels @> ${JSON.stringify({ [term.key]: value })}::jsonb`),
    ' OR ',
  );
  return term.op === 'in' ? Prisma.sql`(${any})` : Prisma.sql`NOT (${any})`;
}

/** For after WHERE. */
export function selectorCondition(selector: Selector): Prisma.Sql {
  return selector.length === 0 ? Prisma.sql`TRUE` : Prisma.join(selector.map(condition), ' AND ');
}

/** What lists can be narrowed by beside labels. */
export interface ChosenFilter {
  selector?: Selector | undefined;
  state?: string | undefined;
  /** Part of the name. */
  name?: string | undefined;
  /** Of volumes and repositories alone. */
  storageNodeId?: string | undefined;
}

function filterConditions({ selector = [], state, name, storageNodeId }: ChosenFilter): Prisma.Sql[] {
  return [
    ...(selector.length > 0 ? [selectorCondition(selector)] : []),
    ...(state !== undefined ? [Prisma.sql`state = ${state}`] : []),
    ...(name !== undefined ? [Prisma.sql`position(${name} in name) > 0`] : []),
    ...(storageNodeId !== undefined ? [Prisma.sql`storage_node_id = ${storageNodeId}::uuid`] : []),
  ];
}

/**
 * Narrows a page, oldest first, to what the filter chooses: for `where`, beside the page's own condition. Rejects
 * `invalid-cursor`.
 */
export async function chosenIds(
  db: Db,
  table: LabelledTable,
  options: PageOptions & ChosenFilter,
): Promise<{ id?: { in: string[] } }> {
  const conditions = filterConditions(options);
  if (conditions.length === 0) return {};
  const { key, take } = pageQuery(options, 'asc');
  const after = key ? Prisma.sql`(created_at, id) > (${key.createdAt}, ${key.id}::uuid)` : Prisma.sql`TRUE`;
  const rows = await db.$queryRaw<{ id: string }[]>`
    SELECT id FROM ${TABLES[table]} WHERE ${after} AND ${Prisma.join(conditions, ' AND ')}
    ORDER BY created_at, id LIMIT ${take}`;
  return { id: { in: rows.map(({ id }) => id) } };
}
