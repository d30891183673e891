// An option's argument by the schema of the QMP command that does the same: JSON, or `key=value,…` whose
// texts become what the schema wants.
import { z } from 'zod';
import { parseArguments } from './arguments.ts';
import { JsonStream } from './json-stream.ts';
import { type KeyValues, parseKeyValues } from './key-values.ts';
import { genericError } from './qmp-error.ts';
import { branchOf, objectOf } from './schema-branch.ts';

/** Throws `QmpError`. */
export function parseOptionValue<Schema extends z.ZodType>(
  schema: Schema,
  text: string,
  impliedKey?: string,
): z.output<Schema> {
  if (text.startsWith('{')) return parseArguments(schema, parseJson(text));
  const values = fromTexts(schema, parseKeyValues(text, impliedKey));
  return parseArguments(schema, values, { fromText: true });
}

function parseJson(text: string): unknown {
  const stream = new JsonStream();
  const inputs = [...stream.feed(Buffer.from(`${text} `))];
  const [first] = inputs;
  if (first === undefined) throw genericError('JSON parse error, premature EOI');
  if ('error' in first) throw genericError(first.error);
  if (inputs.length > 1 || !stream.isAtStart) throw genericError('Expecting at most one JSON value');
  return first.value;
}

/** What cannot be what the schema wants stays a text, for `parseArguments` to complain about. */
function fromTexts(schema: z.ZodType | undefined, value: unknown): unknown {
  const plain = branchOf(schema, value);
  if (typeof value === 'string') return fromText(plain, value);
  if (Array.isArray(value)) {
    const element = plain instanceof z.ZodArray ? (plain.element as z.ZodType) : undefined;
    return value.map(one => fromTexts(element, one));
  }
  const branch = objectOf(plain, value);
  const object = branch instanceof z.ZodObject ? branch : undefined;
  return Object.fromEntries(
    Object.entries(value as KeyValues).map(([key, member]) => [
      key,
      fromTexts(object?.shape[key] as z.ZodType | undefined, member),
    ]),
  );
}

function fromText(schema: z.ZodType | undefined, text: string): unknown {
  if (schema instanceof z.ZodBoolean) {
    if (['on', 'yes', 'true', 'y'].includes(text)) return true;
    return ['off', 'no', 'false', 'n'].includes(text) ? false : text;
  }
  if (schema instanceof z.ZodNumber) return toInteger(text) ?? text;
  return text;
}

/** Decimal, hexadecimal after `0x`, or octal after `0`, as in C. */
function toInteger(text: string): number | undefined {
  const [, sign, digits] = /^(-?)(0x[0-9a-fA-F]+|[0-9]+)$/.exec(text) ?? [];
  if (digits === undefined) return undefined;
  const isOctal = /^0[0-9]/.test(digits);
  if (isOctal && /[89]/.test(digits)) return undefined;
  const value = isOctal ? Number.parseInt(digits, 8) : Number(digits);
  return sign === '-' ? -value : value;
}
