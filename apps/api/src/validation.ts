// Judges a request by its schema and says of each faulty field what is wrong and what to send.
import type { ErrorCode } from '@tidemark/proto';
import type { FastifySchemaCompiler } from 'fastify';
import type { z } from 'zod';
import { withoutTokens } from './access/api-token.ts';
import { EXAMPLE_MOMENT } from './schemas/common.ts';
import type { Problem } from './schemas/problem.ts';

type Issue = z.core.$ZodRawIssue;
export type FieldFault = NonNullable<Problem['errors']>[number];

const PLACES: Readonly<Record<string, FieldFault['in']>> = {
  body: 'body',
  querystring: 'query',
  params: 'path',
  headers: 'headers',
};

/** A request that its schema refuses. Carries the code of the field when only one kind of fault was found. */
export class RequestInvalid extends Error {
  readonly statusCode = 400;
  readonly code: ErrorCode;
  readonly faults: FieldFault[];

  constructor(faults: FieldFault[], code: ErrorCode) {
    super(faults.map(({ in: place, field, message }) => `${describe(place, field)} ${message}`).join('. '));
    this.name = 'RequestInvalid';
    this.faults = faults;
    this.code = code;
  }
}

function describe(place: FieldFault['in'], field: string): string {
  return field === '' ? `The ${place}` : `'${field}' in the ${place}`;
}

const list = (values: readonly unknown[]) => values.map(value => JSON.stringify(value)).join(', ');

function sendInstead(expected: string): string {
  if (expected === 'object' || expected === 'record') return 'send a JSON object';
  if (expected === 'int') return 'send a whole number';
  return /^[aeiou]/.test(expected) ? `send an ${expected}` : `send a ${expected}`;
}

function kindOf(input: unknown): string {
  if (input === null) return 'null';
  if (Array.isArray(input)) return 'an array';
  if (Number.isNaN(input)) return 'no number';
  return `the ${typeof input} ${withoutTokens(JSON.stringify(input) ?? '').slice(0, 80)}`;
}

function boundFault(
  issue: { origin: string; inclusive?: boolean },
  limit: unknown,
  word: 'least' | 'most',
): string {
  if (issue.origin === 'array') return `must hold at ${word} ${limit} ${limit === 1 ? 'entry' : 'entries'}`;
  const unit = issue.origin === 'string' ? ' characters' : '';
  return `must be at ${word} ${limit}${unit}`;
}

function formatFault({ format, input }: { format: string; input?: unknown }): string | undefined {
  if (format === 'uuid') return `is ${kindOf(input)}; send an id, a UUID`;
  if (format === 'datetime') return `is ${kindOf(input)}; send a moment of UTC, such as ${EXAMPLE_MOMENT}`;
  // Not shown: what is nearly a URL may hold a password.
  if (format === 'url') return 'is no URL; send one with http: or https:';
  return undefined;
}

/** Of forms that a value may have the one that it comes nearest to, and what that one misses. */
function unionFault(forms: readonly (readonly z.core.$ZodIssue[])[]): string | undefined {
  const [nearest] = forms.toSorted((a, b) => a.length - b.length);
  if (nearest === undefined || nearest.length === 0) return undefined;
  const faults = nearest.map(({ path, message }) =>
    path.length === 0 ? message : `'${path.join('.')}' of it ${message}`,
  );
  return `does not fit: ${faults.join(', and ')}`;
}

/** The text after the field's name; schema texts of our own go before it. */
function explain(issue: Issue): string | undefined {
  switch (issue.code) {
    case 'invalid_type':
      if (issue.input === undefined) return `is missing; ${sendInstead(issue.expected)}`;
      return `is ${kindOf(issue.input)}; ${sendInstead(issue.expected)}`;
    case 'invalid_value':
      if (issue.input === undefined) return `is missing; send one of ${list(issue.values)}`;
      return `is ${kindOf(issue.input)}; send one of ${list(issue.values)}`;
    case 'unrecognized_keys':
      return `holds ${list(issue.keys)}, which is not known here; leave it out`;
    case 'too_small':
      return boundFault(issue, issue.minimum, 'least');
    case 'too_big':
      return boundFault(issue, issue.maximum, 'most');
    case 'invalid_format':
      return formatFault(issue);
    case 'invalid_union':
      return unionFault(issue.errors);
    default:
      return undefined;
  }
}

function codeOf(issues: readonly z.core.$ZodIssue[]): ErrorCode {
  const found = new Set(issues.map(issue => (issue.code === 'custom' ? issue.params?.problem : undefined)));
  const [only] = found;
  return found.size === 1 && only !== undefined ? (only as ErrorCode) : 'invalid-request';
}

/** Fastify's compiler for zod schemas. A refused part is answered with RequestInvalid. */
export const validatorCompiler: FastifySchemaCompiler<z.ZodType> =
  ({ schema, httpPart }) =>
  data => {
    // A request without a body reaches the schema as null; to the caller it is missing.
    const input = httpPart === 'body' && data === null ? undefined : data;
    const parsed = schema.safeParse(input, { error: explain });
    if (parsed.success) return { value: parsed.data };
    const place = PLACES[httpPart ?? 'body'] ?? 'body';
    const faults = parsed.error.issues.map(issue => ({
      in: place,
      field: issue.path.join('.'),
      message: issue.message,
    }));
    return { error: new RequestInvalid(faults, codeOf(parsed.error.issues)) };
  };
