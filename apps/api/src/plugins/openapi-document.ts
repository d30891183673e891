// The last touch on the OpenAPI document: names and words as a reader expects them.
import type { SwaggerTransformObject } from '@fastify/swagger';
import { jsonSchemaTransformObject } from 'fastify-type-provider-zod';

const REFERENCE = /"#\/components\/schemas\/([A-Za-z]+)"/g;
const SUFFIX = 'Input';

const SUCCESS_WORDS: Readonly<Record<string, string>> = {
  200: 'As asked for.',
  201: 'Made; `location` says where it is.',
  202: 'Accepted and going on; `location` is the run.',
};

interface Document {
  paths?: Record<string, Record<string, { responses?: Record<string, { description: string }> }>>;
  components?: { schemas?: Record<string, object> };
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

export const finishDocument: SwaggerTransformObject = document =>
  withWords(
    withPlainNames(jsonSchemaTransformObject(document) as unknown as Document),
  ) as ReturnType<SwaggerTransformObject>;
