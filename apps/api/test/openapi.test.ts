// Goal: the contract that machines read is complete: every call has words, every answer a schema, every
// refusal the problem document. Method: walk the document that the routes' schemas make.
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { buildApp } from '../src/app.ts';
import { type Problem, problemSchema } from '../src/schemas/problem.ts';

interface Media {
  schema: object;
  examples?: Record<string, { $ref: string }>;
}

interface Operation {
  operationId?: string;
  summary?: string;
  description?: string;
  tags?: string[];
  responses: Record<string, { description: string; content?: Record<string, Media> }>;
}

interface Document {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  tags: { name: string }[];
  components: { schemas: Record<string, object>; examples: Record<string, { value: Problem }> };
}

// Nothing here reaches the catalog or the queue: port 1 refuses.
const nowhere = 'postgres://nobody@127.0.0.1:1/none';
let app: FastifyInstance;
let document: Document;

beforeAll(async () => {
  app = await buildApp({ databaseUrl: nowhere, queueUrl: nowhere });
  document = (await app.inject('/openapi.json')).json();
});

afterAll(() => app.close());

const operations = () =>
  Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ name: `${method} ${path}`, operation })),
  );

const CALLS = [
  'get /healthz',
  'post /v1/repositories/{repository}/scan',
  'post /v1/backups/{backup}/verify',
  'post /v1/backups/{backup}/replicate',
  'get /v1/replication-rules',
  'post /v1/replication-rules',
  'get /v1/replication-rules/{rule}',
  'patch /v1/replication-rules/{rule}',
  'delete /v1/replication-rules/{rule}',
  'patch /v1/repositories/{repository}',
  'patch /v1/storage-nodes/{storageNode}',
  'delete /v1/repositories/{repository}',
  'get /readyz',
  'get /v1/backups',
  'get /v1/backups/{backup}',
  'get /v1/events',
  'get /v1/webhooks',
  'get /v1/webhooks/{webhook}',
  'get /v1/webhooks/{webhook}/deliveries',
  'post /v1/webhooks',
  'patch /v1/webhooks/{webhook}',
  'delete /v1/webhooks/{webhook}',
  'post /v1/webhooks/{webhook}/ping',
  'post /v1/webhooks/{webhook}/secret',
  'post /v1/webhooks/{webhook}/deliveries/{delivery}/redeliver',
  'get /v1/policies',
  'post /v1/policies',
  'post /v1/policies/simulate',
  'get /v1/policies/{policy}',
  'patch /v1/policies/{policy}',
  'delete /v1/policies/{policy}',
  'post /v1/policies/{policy}/enable',
  'post /v1/policies/{policy}/disable',
  'post /v1/policies/{policy}/simulate',
  'post /v1/policies/{policy}/fire',
  'get /v1/policies/{policy}/firings',
  'get /v1/policies/{policy}/firings/{firing}',
  'get /v1/policies/{policy}/firings/{firing}/members',
  'post /v1/policies/{policy}/firings/{firing}/retry',
  'get /v1/repositories',
  'get /v1/repositories/{repository}',
  'get /v1/runs',
  'get /v1/runs/{run}',
  'get /v1/storage-nodes',
  'get /v1/storage-nodes/{storageNode}',
  'get /v1/volumes',
  'get /v1/volumes/{volume}',
  'get /v1/volumes/{volume}/changed-blocks',
  'get /v1/volumes/{volume}/changed-bytes',
  'get /v1/volumes/{volume}/checkpoints',
  'get /v1/volumes/{volume}/checkpoints/{checkpoint}',
  'get /v1/volumes/{volume}/commits',
  'get /v1/volumes/{volume}/commits/{commit}',
  'get /v1/volumes/{volume}/snapshots',
  'get /v1/volumes/{volume}/snapshots/{snapshot}',
  'delete /v1/backups/{backup}',
  'delete /v1/storage-nodes/{storageNode}',
  'delete /v1/volumes/{volume}',
  'delete /v1/volumes/{volume}/checkpoints/{checkpoint}',
  'patch /v1/backups/{backup}',
  'patch /v1/volumes/{volume}',
  'patch /v1/volumes/{volume}/checkpoints/{checkpoint}',
  'post /v1/backups',
  'get /v1/groups',
  'get /v1/groups/{group}',
  'post /v1/groups',
  'delete /v1/groups/{group}',
  'post /v1/prune',
  'post /v1/repositories',
  'post /v1/restores',
  'post /v1/exports',
  'post /v1/runs/{run}/cancel',
  'post /v1/runs/{run}/finish',
  'post /v1/runs/{run}/pause',
  'post /v1/runs/{run}/resume',
  'post /v1/runs/{run}/speed',
  'post /v1/storage-nodes',
  'post /v1/volumes',
  'post /v1/volumes/{volume}/move',
  'get /v1/join-tokens',
  'post /v1/join-tokens',
  'delete /v1/join-tokens/{joinToken}',
  'post /v1/storage-nodes/join',
  'post /v1/storage-nodes/{storageNode}/cordon',
  'post /v1/storage-nodes/{storageNode}/uncordon',
  'post /v1/storage-nodes/{storageNode}/drain',
  'post /v1/storage-nodes/{storageNode}/recover',
  'post /v1/volumes/{volume}/checkpoints',
  'post /v1/volumes/{volume}/checkpoints/redefine',
  'post /v1/volumes/{volume}/commits',
  'post /v1/volumes/{volume}/commits/{commit}/keep',
  'post /v1/volumes/{volume}/commits/{commit}/pivot',
  'post /v1/volumes/{volume}/snapshots',
  'get /v1/differences',
  'get /v1/differences/{difference}',
  'post /v1/differences/{difference}/repair',
  'post /v1/reconcile',
  'post /v1/volumes/{volume}/audit',
  'get /v1/audit',
  'get /v1/tokens',
  'get /v1/tokens/{token}',
  'post /v1/tokens',
  'delete /v1/tokens/{token}',
];

test('lists every call of the contract', () => {
  expect(document.openapi).toBe('3.1.0');
  expect(
    operations()
      .map(({ name }) => name)
      .sort(),
  ).toEqual([...CALLS].sort());
});

test('every call says what it does and belongs to a described group', () => {
  const groups = document.tags.map(tag => tag.name);
  for (const { name, operation } of operations()) {
    expect(operation.summary, name).toMatch(/\w/);
    expect(operation.description, name).toMatch(/\.$/);
    expect(groups, name).toContain(operation.tags?.[0]);
  }
});

test('every answer has a schema, and every refusal is a problem document', () => {
  for (const { name, operation } of operations()) {
    const answers = Object.entries(operation.responses);
    expect(
      answers.filter(([status]) => status < '300'),
      name,
    ).not.toHaveLength(0);
    for (const [status, answer] of answers) {
      if (status === '304') continue;
      const [type, media] = Object.entries(answer.content ?? {})[0] ?? [];
      const place = `${name} ${status}`;
      expect(type, place).toBe(status < '300' ? 'application/json' : 'application/problem+json');
      expect(media?.schema, place).toHaveProperty('$ref');
    }
    if (name.includes('/v1/')) expect(operation.responses, name).toHaveProperty('503');
  }
});

test('every call has a name of its own, which follows from what it does', () => {
  const names = operations().map(({ operation }) => operation.operationId);
  for (const name of names) expect(name).toMatch(/^[a-z][A-Za-z]+$/);
  expect(new Set(names).size).toBe(names.length);
  expect(document.paths['/v1/volumes/{volume}/checkpoints']?.post?.operationId).toBe(
    'createVolumeCheckpoint',
  );
  expect(document.paths['/v1/policies/{policy}']?.get?.operationId).toBe('getPolicy');
  expect(document.paths['/v1/runs/{run}/cancel']?.post?.operationId).toBe('cancelRun');
});

test('every refusal shows each of its codes with an example of its own', () => {
  for (const { name, operation } of operations()) {
    for (const [status, answer] of Object.entries(operation.responses)) {
      if (status < '400') continue;
      const examples = answer.content?.['application/problem+json']?.examples ?? {};
      const told = [...answer.description.matchAll(/`([a-z-]+)`: /g)].map(match => match[1]!);
      expect(Object.keys(examples), `${name} ${status}`).toEqual(told);
      for (const code of told) {
        expect(examples[code]).toEqual({ $ref: `#/components/examples/${code}` });
        expect(document.components.examples[code]?.value.status, `${name} ${code}`).toBe(Number(status));
      }
    }
  }
  for (const [code, { value }] of Object.entries(document.components.examples)) {
    expect(problemSchema.parse(value)).toMatchObject({ code, type: `urn:tidemark:problem:${code}` });
  }
});

test('every reference leads to a schema', () => {
  const text = JSON.stringify(document);
  const references = new Set([...text.matchAll(/"\$ref":"([^"]+)"/g)].map(match => match[1]!));
  expect(references.size).toBeGreaterThan(15);
  for (const reference of references) {
    expect(reference).toMatch(/^#\/components\/(schemas|examples)\//);
    const [part, name] = reference.split('/').slice(2);
    expect(document.components[part as 'schemas' | 'examples']).toHaveProperty([name!]);
  }
});

test('requests carry examples and the limits of their fields', () => {
  const schema = document.components.schemas.CreateVolume as {
    examples: unknown[];
    additionalProperties: boolean;
    required: string[];
    properties: Record<string, object>;
  };
  expect(schema.examples).toHaveLength(1);
  expect(schema.additionalProperties).toBe(false);
  expect(schema.required).toEqual(['name', 'storageNode', 'sizeBytes']);
  expect(schema.properties.sizeBytes).toMatchObject({ type: 'integer', multipleOf: 512, minimum: 512 });
  expect(schema.properties.name).toHaveProperty('pattern');
});

/** Of the schema itself, or of all that it is made of. */
function isShown(name: string, within: readonly string[] = []): boolean {
  const schema = document.components.schemas[name] as { examples?: unknown[] };
  if (schema.examples !== undefined) return true;
  const parts = [...JSON.stringify(schema).matchAll(/schemas\/(\w+)"/g)].map(match => match[1]!);
  const others = parts.filter(part => !within.includes(part));
  return others.length > 0 && others.every(part => isShown(part, [...within, name]));
}

test('every request and every answer has an example, and each example is one', () => {
  const used = new Set(
    [...JSON.stringify(document.paths).matchAll(/schemas\/(\w+)"/g)].map(match => match[1]!),
  );
  expect([...used].filter(name => !isShown(name))).toEqual([]);
  const text = JSON.stringify(document.components.schemas).replaceAll('components/schemas', '$defs');
  // Which fields go together is not read back.
  const $defs = JSON.parse(text, (key, value) =>
    key === 'oneOf' && value.every((one: object) => Object.keys(one).join() === 'required')
      ? undefined
      : value,
  );
  for (const [name, schema] of Object.entries<{ examples?: unknown[] }>($defs)) {
    const read = z.fromJSONSchema({ ...schema, $defs } as Parameters<typeof z.fromJSONSchema>[0]);
    for (const example of schema.examples ?? []) {
      const { error } = read.safeParse(example);
      expect.soft(error?.issues ?? [], name).toEqual([]);
    }
  }
});

test('the page for people asks no other server for anything', async () => {
  const page = await app.inject('/docs/');
  expect(page.statusCode).toBe(200);
  expect(page.headers['content-type']).toMatch(/text\/html/);
  expect(page.headers['content-security-policy']).toMatch(/^default-src 'self'/);
  expect(page.headers['content-security-policy']).not.toMatch(/upgrade-insecure|https?:/);
  const loaded = [...page.body.matchAll(/(?:src|href)="([^"]+)"/g)].map(match => match[1]!);
  expect(loaded.length).toBeGreaterThan(3);
  for (const file of loaded) {
    expect(file).not.toMatch(/^(https?:)?\/\//);
    const answer = await app.inject(new URL(file, 'http://host/docs/').pathname);
    expect(answer.statusCode, file).toBe(200);
  }
});

test('calls name the headers that they understand', () => {
  const headers = (path: string, method: string) =>
    ((document.paths[path]![method] as { parameters?: { in: string; name: string }[] }).parameters ?? [])
      .filter(parameter => parameter.in === 'header')
      .map(parameter => parameter.name);
  expect(headers('/v1/volumes', 'post')).toEqual(['idempotency-key']);
  expect(headers('/v1/volumes', 'get')).toEqual([]);
  expect(headers('/v1/volumes/{volume}', 'get')).toEqual(['if-none-match']);
  expect(headers('/v1/volumes/{volume}', 'patch')).toEqual(['if-match']);
  expect(headers('/v1/volumes/{volume}', 'delete')).toEqual(['if-match']);
  const { responses } = document.paths['/v1/volumes/{volume}']!.delete!;
  expect(responses[412]?.description).toContain('precondition-failed');
  expect(headers('/v1/join-tokens/{joinToken}', 'delete')).toEqual([]);
  expect(document.paths['/v1/volumes/{volume}']!.get!.responses[304]?.content).toBeUndefined();
  expect(document.paths['/v1/volumes']!.post!.responses[413]?.description).toContain('request-too-large');
  expect(document.paths['/v1/volumes']!.post!.responses[422]?.description).toContain(
    'idempotency-key-reused',
  );
});
