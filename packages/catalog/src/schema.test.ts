// Goal: the schema and the migrations say the same: every column with its type, default and nullability,
// every index, every foreign key. Method: reads the models out of prisma/*.prisma and the same facts out of a
// migrated database, and compares the two.
import { readdir, readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, inDatabase, type TestDatabase } from './testing/index.ts';

interface Field {
  name: string;
  type: string;
  attributes: string;
}

interface Model {
  table: string;
  fields: Field[];
  blocks: string[];
}

let database: TestDatabase;
let models: Map<string, Model>;

beforeAll(async () => {
  database = await createTestDatabase();
  const folder = new URL('../prisma/', import.meta.url);
  const names = (await readdir(folder)).filter(name => name.endsWith('.prisma'));
  const text = (await Promise.all(names.map(name => readFile(new URL(name, folder), 'utf8')))).join('\n');
  models = new Map(
    [...text.matchAll(/^model (\w+) \{\n(.*?)^\}/gms)].map(([, name, body]) => [name!, readModel(body!)]),
  );
});
afterAll(() => database.drop());

function readModel(body: string): Model {
  const lines = body.split('\n').map(line => line.trim());
  const fields = lines.flatMap(line => {
    const match = /^([a-z]\w*)\s+([A-Z]\w*(?:\?|\[\])?)(.*)$/.exec(line);
    return match ? [{ name: match[1]!, type: match[2]!, attributes: match[3]! }] : [];
  });
  const table = /@@map\("(\w+)"\)/.exec(body)?.[1] ?? '';
  return { table, fields, blocks: lines.filter(line => line.startsWith('@@')) };
}

const isColumn = (field: Field) => !models.has(field.type.replace(/[?[\]]/g, ''));
const columnName = (field: Field) => /@map\("(\w+)"\)/.exec(field.attributes)?.[1] ?? field.name;

const TYPES: Record<string, string> = {
  Int: 'integer',
  BigInt: 'bigint',
  Boolean: 'boolean',
  Json: 'jsonb',
  Float: 'double precision',
};

function columnType({ type, attributes }: Field): string {
  const plain = type.replace('?', '');
  if (attributes.includes('@db.Uuid')) return 'uuid';
  if (plain === 'String') return 'text';
  if (plain !== 'DateTime') return TYPES[plain] ?? `unknown ${plain}`;
  return attributes.includes('@db.Timestamptz(3)') ? 'timestamp(3) with time zone' : 'timestamp(3)';
}

function columnDefault(field: Field, table: string): string | null {
  const { attributes } = field;
  const generated = /@default\(dbgenerated\("(.+?)"\)\)/.exec(attributes)?.[1];
  if (generated !== undefined) return generated;
  const value = /@default\(([^()]+|\w+\(\))\)/.exec(attributes)?.[1];
  if (value === 'now()') return 'CURRENT_TIMESTAMP';
  if (value === 'autoincrement()') return `nextval('${table}_${columnName(field)}_seq'::regclass)`;
  const text = field.type.startsWith('Json') ? 'jsonb' : 'text';
  if (value?.startsWith('"')) return `'${value.slice(1, -1)}'::${text}`;
  return value ?? null;
}

async function ask<T>(sql: string): Promise<T[]> {
  return inDatabase(database.url, async client => (await client.query(sql)).rows as T[]);
}

test('every column', async () => {
  const wanted = [...models.values()].flatMap(({ table, fields }) =>
    fields.filter(isColumn).map(field => ({
      table,
      name: columnName(field),
      type: columnType(field),
      nullable: field.type.endsWith('?'),
      value: columnDefault(field, table),
    })),
  );
  const found = await ask(
    `SELECT c.relname AS table, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
       NOT a.attnotnull AS nullable, pg_get_expr(d.adbin, d.adrelid) AS value
     FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
     LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
       AND NOT a.attisdropped AND c.relname <> '_prisma_migrations'`,
  );
  expect(found.length).toBeGreaterThan(80);
  expect(new Set(found.map(row => JSON.stringify(row)))).toEqual(
    new Set(wanted.map(row => JSON.stringify(row))),
  );
});

test('every index', async () => {
  const wanted = [...models.values()].flatMap(({ table, fields, blocks }) => {
    const column = (name: string) => columnName(fields.find(field => field.name === name)!);
    const single = fields.flatMap(field => {
      if (/@id\b/.test(field.attributes)) return [`${table} primary (${columnName(field)})`];
      return /@unique\b/.test(field.attributes) ? [`${table} unique (${columnName(field)})`] : [];
    });
    const several = blocks.flatMap(block => {
      const match = /^@@(id|unique|index)\(\[(.+)\](?:, type: Gin)?\)$/.exec(
        block.replace(/\(ops: .+?\)\)/, ''),
      );
      if (!match) return [];
      const kind = { id: 'primary', unique: 'unique', index: 'plain' }[match[1]!];
      return [`${table} ${kind} (${match[2]!.split(', ').map(column).join(', ')})`];
    });
    return [...single, ...several];
  });
  const found = await ask<{ text: string }>(
    `SELECT c.relname || CASE WHEN i.indisprimary THEN ' primary ' WHEN i.indisunique THEN ' unique '
       ELSE ' plain ' END || '(' || array_to_string(ARRAY(SELECT pg_get_indexdef(i.indexrelid, n, true)
       FROM generate_series(1, i.indnatts) AS n), ', ') || ')' AS text
     FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
     WHERE c.relnamespace = 'public'::regnamespace AND c.relname <> '_prisma_migrations'
       -- The schema has no words for partial ones.
       AND i.indpred IS NULL`,
  );
  expect(found.map(row => row.text).sort()).toEqual(wanted.sort());
});

test('every foreign key', async () => {
  const wanted = [...models.values()].flatMap(({ table, fields }) =>
    fields.flatMap(field => {
      const match = /fields: \[(\w+)\], references: \[id\], onDelete: (\w+)/.exec(field.attributes);
      if (!match) return [];
      const target = models.get(field.type.replace('?', ''))!.table;
      const column = columnName(fields.find(({ name }) => name === match[1])!);
      return [`${table}.${column} ${target} ${match[2]!.toLowerCase()} cascade`];
    }),
  );
  const found = await ask<{ text: string }>(
    `SELECT c.conrelid::regclass || '.' || a.attname || ' ' || c.confrelid::regclass || ' ' ||
       CASE c.confdeltype WHEN 'r' THEN 'restrict' WHEN 'c' THEN 'cascade' ELSE '?' END || ' ' ||
       CASE c.confupdtype WHEN 'c' THEN 'cascade' ELSE '?' END AS text
     FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
     WHERE c.contype = 'f'`,
  );
  expect(found.map(row => row.text).sort()).toEqual(wanted.sort());
});
