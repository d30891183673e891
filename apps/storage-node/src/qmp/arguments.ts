// Checks a command's arguments, and words what is wrong with them as QEMU 7.2 does: first whatever is missing
// or of another type, in the order of the command's members, then what nobody asked for.
import { z } from 'zod';
import { genericError } from './qmp-error.ts';

/** Largest value of QAPI's `size` that this program can count exactly. */
const SIZE_MAX = Number.MAX_SAFE_INTEGER;

/** QAPI `int`. */
export const int64 = z.int().meta({ qapi: 'integer' });
/** QAPI `size` and `uint64`: bytes. */
export const size = z.int().min(0).max(SIZE_MAX).meta({ qapi: 'integer', range: 'uint64' });
export const uint32 = z.int().min(0).max(0xffff_ffff).meta({ qapi: 'integer', range: 'uint32_t' });
export const uint16 = z.int().min(0).max(0xffff).meta({ qapi: 'integer', range: 'uint16_t' });

/** An alternate: QEMU names the type where the value fits none of its branches. */
export function alternate<Options extends readonly [z.ZodType, ...z.ZodType[]]>(
  name: string,
  options: Options,
): z.ZodUnion<Options> {
  return z.union(options).meta({ qapi: name }) as z.ZodUnion<Options>;
}

/** Throws `QmpError` with the first fault. */
export function parseArguments<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const parsed = schema.safeParse(value, { reportInput: true });
  if (parsed.success) return parsed.data;
  throw genericError(describe(schema, parsed.error.issues));
}

type Issue = z.core.$ZodIssue;

function describe(schema: z.ZodType, issues: readonly Issue[]): string {
  const first = issues.find(issue => issue.code !== 'unrecognized_keys') ?? issues[0]!;
  return describeOne(schema, first, []);
}

function describeOne(schema: z.ZodType, issue: Issue, prefix: readonly PropertyKey[]): string {
  const path = [...prefix, ...issue.path];
  const name = formatPath(path);
  switch (issue.code) {
    case 'unrecognized_keys':
      return `Parameter '${formatPath([...path, issue.keys.at(-1)!])}' is unexpected`;
    case 'invalid_type':
      if (issue.input === undefined) return `Parameter '${name}' is missing`;
      return `Invalid parameter type for '${name}', expected: ${TYPE_NAMES[issue.expected] ?? issue.expected}`;
    case 'invalid_value':
      if (issue.input === undefined) return `Parameter '${name}' is missing`;
      if (typeof issue.input !== 'string') return `Invalid parameter type for '${name}', expected: string`;
      return `Parameter '${name}' does not accept value '${issue.input}'`;
    case 'too_small':
    case 'too_big':
      return `Parameter '${name}' expects ${metaAt(schema, path)?.range ?? 'another value'}`;
    case 'invalid_union':
      return describeUnion(schema, issue, path);
    default:
      return `Parameter '${name}' ${issue.message}`;
  }
}

function describeUnion(
  schema: z.ZodType,
  issue: Issue & { code: 'invalid_union' },
  path: PropertyKey[],
): string {
  const { input } = issue;
  if ('discriminator' in issue && typeof issue.discriminator === 'string') {
    const name = formatPath(path);
    const value = (input as Record<string, unknown> | undefined)?.[issue.discriminator] ?? input;
    if (value === undefined || typeof value === 'object') return `Parameter '${name}' is missing`;
    if (typeof value !== 'string') return `Invalid parameter type for '${name}', expected: string`;
    return `Parameter '${name}' does not accept value '${value}'`;
  }
  // The branch of the value's own type says what is wrong inside it.
  const inner = issue.errors.find(issues =>
    issues.some(one => one.path.length > 0 || one.code === 'unrecognized_keys'),
  );
  if (inner !== undefined && typeof input === 'object' && input !== null) {
    const first = inner.find(one => one.code !== 'unrecognized_keys') ?? inner[0]!;
    return describeOne(schema, first, path);
  }
  const last = path.at(-1);
  const name = typeof last === 'number' ? 'null' : formatPath(path);
  if (input === undefined) return `Parameter '${name}' is missing`;
  return `Invalid parameter type for '${name}', expected: ${metaAt(schema, path)?.qapi ?? 'object'}`;
}

const TYPE_NAMES: Readonly<Record<string, string>> = {
  string: 'string',
  int: 'integer',
  number: 'integer',
  boolean: 'boolean',
  object: 'object',
  array: 'array',
};

interface Meta {
  qapi?: string;
  range?: string;
}

/** What the schema says of the member at the path. */
function metaAt(schema: z.ZodType, path: readonly PropertyKey[]): Meta | undefined {
  let at: z.ZodType | undefined = unwrap(schema);
  for (const key of path) {
    if (at instanceof z.ZodObject) at = unwrap(at.shape[String(key)] as z.ZodType | undefined);
    else if (at instanceof z.ZodArray) at = unwrap(at.element as z.ZodType);
    else return undefined;
  }
  return at?.meta() as Meta | undefined;
}

function unwrap(schema: z.ZodType | undefined): z.ZodType | undefined {
  return schema instanceof z.ZodOptional || schema instanceof z.ZodDefault
    ? unwrap(schema.unwrap() as z.ZodType)
    : schema;
}

/** `x-perf.max-workers`, `bitmaps[1].name`; `null` for the arguments as a whole. */
function formatPath(path: readonly PropertyKey[]): string {
  let text = '';
  for (const key of path) {
    if (typeof key === 'number') text += `[${key}]`;
    else text += text === '' ? String(key) : `.${String(key)}`;
  }
  return text === '' ? 'null' : text;
}
