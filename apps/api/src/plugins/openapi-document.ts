// The last touch on the OpenAPI document: names and words as a reader expects them.
import type { SwaggerTransformObject } from '@fastify/swagger';
import { ERROR_CODES, type ErrorCode } from '@tidemark/proto';
import { jsonSchemaTransformObject } from 'fastify-type-provider-zod';
import { PROBLEM_TYPE } from '../schemas/problem.ts';
import { operationName } from './operation-names.ts';
import { type Operation, type RefusalExample, withRefusalExamples } from './refusal-examples.ts';

const REFERENCE = /"#\/components\/schemas\/([A-Za-z]+)"/g;
const SUFFIX = 'Input';

const SUCCESS_WORDS: Readonly<Record<string, string>> = {
  200: 'As asked for.',
  201: 'Made; `location` says where it is.',
  202: 'Accepted and going on; `location` is the run.',
};

interface Document {
  paths?: Record<string, Record<string, Operation>>;
  components?: { schemas?: Record<string, object>; examples?: Record<string, RefusalExample> };
}

const referencesIn = (part: unknown): string[] =>
  [...JSON.stringify(part ?? {}).matchAll(REFERENCE)].map(match => match[1]!);

/** Names of the schemas that the paths need, directly or through others. */
function needed(document: Document): Set<string> {
  const names = new Set<string>();
  const queue = referencesIn(document.paths);
  for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
    if (names.has(name)) continue;
    names.add(name);
    queue.push(...referencesIn(document.components?.schemas?.[name]));
  }
  return names;
}

/**
 * The provider emits each schema twice, as read and as written (`XInput`). Keeps what is used, and drops the
 * suffix, which no name needs: requests and answers are different schemas here.
 */
function withPlainNames(document: Document): Document {
  const names = needed(document);
  const schemas = Object.fromEntries(
    Object.entries(document.components?.schemas ?? {}).filter(([name]) => names.has(name)),
  );
  const plain = (name: string) => {
    const short = name.endsWith(SUFFIX) ? name.slice(0, -SUFFIX.length) : name;
    return short !== name && names.has(short) ? name : short;
  };
  const text = JSON.stringify({ ...document, components: { ...document.components, schemas } });
  const renamed = JSON.parse(
    text.replaceAll(REFERENCE, (_, name: string) => `"#/components/schemas/${plain(name)}"`),
  ) as Document;
  const entries = Object.entries(renamed.components?.schemas ?? {}).map(([name, schema]) => [
    plain(name),
    schema,
  ]);
  return { ...renamed, components: { ...renamed.components, schemas: Object.fromEntries(entries) } };
}

function withWords(document: Document): Document {
  for (const operation of Object.values(document.paths ?? {}).flatMap(path => Object.values(path))) {
    for (const [status, response] of Object.entries(operation.responses ?? {})) {
      const words = SUCCESS_WORDS[status];
      if (words !== undefined) response.description = words;
    }
  }
  return document;
}

/** Of the last part of a path: one resource, which has a version. */
const SINGLE = /^\/v1\/.*\{[A-Za-z]+\}$/;

const headerOf = (name: string, description: string, maxLength = 1_024) => ({
  in: 'header',
  name,
  required: false,
  description,
  schema: { type: 'string', maxLength },
});

const KEY = headerOf(
  'idempotency-key',
  'Chosen by the caller, such as a UUID. Sent again within a day with the same body, the call is answered as before ' +
    'and carried out once.',
  255,
);
const IF_MATCH = headerOf(
  'if-match',
  'An `etag` that was read: the call is refused where it has changed since.',
);
const IF_NONE_MATCH = headerOf(
  'if-none-match',
  'An `etag` that was read: answered 304 where it is the same.',
);

const NOT_CHANGED = { description: 'It is what `if-none-match` names. Without a body.' };
const BODY_CODES = ['request-too-large', 'unsupported-media-type'] as const;
const KEY_CODES = ['idempotency-key-reused', 'idempotency-key-busy', 'idempotency-answer-lost'] as const;

function withRefusals(operation: Operation, codes: readonly ErrorCode[]): void {
  for (const code of codes) {
    const { http, title } = ERROR_CODES[code];
    operation.responses ??= {};
    const known = operation.responses[http];
    const description = [known?.description, `\`${code}\`: ${title}`].filter(Boolean).join('; ');
    const schema = { $ref: '#/components/schemas/Problem' };
    operation.responses[http] = { content: { [PROBLEM_TYPE]: { schema } }, ...known, description };
  }
}

/** What every call understands beside its own: headers of versions and keys. */
function withHeaders(document: Document): Document {
  for (const [path, operations] of Object.entries(document.paths ?? {})) {
    for (const [method, operation] of Object.entries(operations)) {
      const add = (header: object, codes: readonly ErrorCode[]) => {
        operation.parameters = [...(operation.parameters ?? []), header];
        withRefusals(operation, codes);
      };
      if (operation.requestBody !== undefined) withRefusals(operation, BODY_CODES);
      if (method === 'post') add(KEY, KEY_CODES);
      // What cannot be read has no version.
      else if (SINGLE.test(path) && operations.get !== undefined) {
        if (method === 'get') {
          add(IF_NONE_MATCH, []);
          operation.responses = { ...operation.responses, 304: NOT_CHANGED };
        } else add(IF_MATCH, ['precondition-failed']);
      }
    }
  }
  return document;
}

/** Last, when every call has all that it answers with. */
function withNamesAndExamples(document: Document): Document {
  const examples: Record<string, RefusalExample> = {};
  for (const [path, operations] of Object.entries(document.paths ?? {})) {
    for (const [method, operation] of Object.entries(operations)) {
      operation.operationId = operationName(method, path);
      withRefusalExamples(operation, examples);
    }
  }
  return { ...document, components: { ...document.components, examples } };
}

export const finishDocument: SwaggerTransformObject = document =>
  withNamesAndExamples(
    withHeaders(withWords(withPlainNames(jsonSchemaTransformObject(document) as unknown as Document))),
  ) as ReturnType<SwaggerTransformObject>;
