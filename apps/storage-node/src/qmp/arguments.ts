// Checks a command's arguments, and words what is wrong with them as QEMU 7.2 does: first whatever is missing
// or of another type, in the order of the command's members, then what nobody asked for.
import { z } from 'zod';
import { WholeDouble } from './json-stream.ts';
import { genericError } from './qmp-error.ts';
import { branchOf, objectOf } from './schema-branch.ts';

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

/** Throws `QmpError` with the first fault. `fromText`: the value was written as `key=value,…`. */
export function parseArguments<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  { fromText = false } = {},
): z.output<Schema> {
  const plain = withoutLongIntegers(value);
  const parsed = schema.safeParse(plain, { reportInput: true });
  if (parsed.success) return parsed.data;
  throw genericError(describeOne({ schema, value: plain, fromText }, firstOf(parsed.error.issues), []));
}

const INT64_MAX = 2n ** 63n - 1n;

/**
 * Integers that fit into 64 bits, but not into a number, become the nearest that does: nothing here is that
 * large, and scripts give such values for `without limit`.
 */
function withoutLongIntegers(value: unknown): unknown {
  if (typeof value === 'bigint') {
    if (value > INT64_MAX) return value;
    return value > 0n ? Number.MAX_SAFE_INTEGER : Number.MIN_SAFE_INTEGER;
  }
  if (Array.isArray(value)) return value.map(withoutLongIntegers);
  // No number that anything here takes.
  if (value instanceof WholeDouble) return Number.NaN;
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, withoutLongIntegers(member)]));
}

type Issue = z.core.$ZodIssue;

/** What was expected of what, from the top. */
interface Checked {
  readonly schema: z.ZodType;
  readonly value: unknown;
  readonly fromText: boolean;
}

/** Members that nobody asked for are found after all others of the same object. */
function firstOf(issues: readonly Issue[]): Issue {
  let first = issues[0]!;
  while (first.code === 'unrecognized_keys') {
    const { path } = first;
    const inner = issues.find(
      issue => issue.path.length > path.length && path.every((key, i) => issue.path[i] === key),
    );
    if (inner === undefined) break;
    first = inner;
  }
  return first;
}

function describeOne(checked: Checked, issue: Issue, prefix: readonly PropertyKey[]): string {
  const path = [...prefix, ...issue.path];
  const name = formatPath(path);
  // Of a value that is wrong in itself QEMU says the last name alone.
  const ownName = formatPath(path.slice(path.findLastIndex(key => typeof key === 'string')));
  const shortName = typeof path.at(-1) === 'number' ? 'null' : ownName;
  switch (issue.code) {
    case 'unrecognized_keys':
      return `Parameter '${formatPath([...path, issue.keys.at(-1)!])}' is unexpected`;
    case 'invalid_type':
      if (issue.input === undefined) return `Parameter '${name}' is missing`;
      if (checked.fromText && typeof issue.input === 'string' && issue.expected in TEXT_FORMS) {
        return `Parameter '${name.replaceAll(/\[(\d+)\]/g, '.$1')}' expects ${TEXT_FORMS[issue.expected]}`;
      }
      if (metaAt(checked, path)?.range !== undefined) return `Parameter '${name}' expects uint64`;
      return `Invalid parameter type for '${name}', expected: ${TYPE_NAMES[issue.expected] ?? issue.expected}`;
    case 'invalid_value':
      if (issue.input === undefined) return `Parameter '${name}' is missing`;
      if (typeof issue.input !== 'string') return `Invalid parameter type for '${name}', expected: string`;
      return `Parameter '${shortName}' does not accept value '${issue.input}'`;
    case 'too_small':
    case 'too_big': {
      const range = metaAt(checked, path)?.range;
      if (range === undefined) return `Invalid parameter type for '${name}', expected: integer`;
      return `Parameter '${ownName}' expects ${range}`;
    }
    case 'invalid_union':
      return describeUnion(checked, issue, path);
    default:
      return `Parameter '${name}' ${issue.message}`;
  }
}

function describeUnion(
  checked: Checked,
  issue: Issue & { code: 'invalid_union' },
  path: PropertyKey[],
): string {
  const { input } = issue;
  if ('discriminator' in issue && typeof issue.discriminator === 'string') {
    const name = formatPath(path);
    const value = (input as Record<string, unknown>)[issue.discriminator];
    if (value === undefined) return `Parameter '${name}' is missing`;
    if (typeof value !== 'string') return `Invalid parameter type for '${name}', expected: string`;
    return `Parameter '${issue.discriminator}' does not accept value '${value}'`;
  }
  // The branch of the value's own type says what is wrong inside it.
  const inner = issue.errors.find(issues =>
    issues.some(one => one.path.length > 0 || one.code === 'unrecognized_keys'),
  );
  if (inner !== undefined && typeof input === 'object' && input !== null) {
    return describeOne(checked, firstOf(inner), path);
  }
  const last = path.at(-1);
  const name = typeof last === 'number' ? 'null' : formatPath(path);
  if (input === undefined) return `Parameter '${name}' is missing`;
  return `Invalid parameter type for '${name}', expected: ${metaAt(checked, path)?.qapi ?? 'object'}`;
}

const TYPE_NAMES: Readonly<Record<string, string>> = {
  string: 'string',
  int: 'integer',
  number: 'integer',
  boolean: 'boolean',
  object: 'object',
  array: 'array',
};

/** What a text would have to be for these types. */
const TEXT_FORMS: Readonly<Record<string, string>> = {
  int: 'integer',
  number: 'integer',
  boolean: "'on' or 'off'",
};

interface Meta {
  qapi?: string;
  range?: string;
}

/** What the schema says of the member at the path. */
function metaAt(
  { schema, value }: Pick<Checked, 'schema' | 'value'>,
  path: readonly PropertyKey[],
): Meta | undefined {
  let at = branchOf(schema, value);
  let here = value;
  for (const key of path) {
    at = objectOf(at, here);
    here = (here as Record<PropertyKey, unknown> | undefined)?.[key];
    if (at instanceof z.ZodObject) at = branchOf(at.shape[String(key)] as z.ZodType | undefined, here);
    else if (at instanceof z.ZodArray) at = branchOf(at.element as z.ZodType, here);
    else return undefined;
  }
  return at?.meta() as Meta | undefined;
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
