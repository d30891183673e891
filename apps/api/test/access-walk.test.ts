// Goal: no call forgets who asks, also none that is added later. Method: every call that the API's description lists,
// with the body of its own example, sent without a token, by a viewer, and by an admin with a scope about what is
// outside of it.
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Method, TestApi } from './support/test-api.ts';

const BOOTSTRAP = 'bootstrap-secret-of-this-test-0123456789';
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const asAdmin = bearer(BOOTSTRAP);

/** The join token is what lets in. */
const NEEDS_NO_TOKEN = ['POST /v1/storage-nodes/join'];
/** They change nothing. */
const VIEWERS_POST = ['POST /v1/policies/simulate', 'POST /v1/policies/{policy}/simulate'];
/** Lists hold what is inside of the scope, and names to choose from. */
const SCOPED_DO = [
  'GET /v1/volumes',
  'GET /v1/backups',
  'GET /v1/runs',
  'GET /v1/events',
  'GET /v1/webhooks',
  'POST /v1/webhooks',
  'GET /v1/groups',
  'GET /v1/repositories',
  'GET /v1/repositories/{repository}',
  'GET /v1/storage-nodes',
  'GET /v1/storage-nodes/{storageNode}',
];

interface Call {
  readonly name: string;
  readonly method: Method;
  readonly url: string;
  readonly body: object | undefined;
}

interface Operation {
  requestBody?: object;
  parameters?: { in: string; name: string; required?: boolean }[];
}

interface Described {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, { examples?: object[] }> };
}

let open: TestApi;
let api: TestApi;
let calls: Call[];
let foreign: Record<string, string>;

beforeAll(async () => {
  open = await TestApi.start();
  api = await TestApi.on(open.database, { needsToken: true, bootstrapToken: BOOTSTRAP });
  // Names of the examples.
  await open.storageNode('alpha');
  await open.repository('nightly', 'alpha');
  await open.repository('offsite', 'alpha');
  const volume = await open.volume('web-01', 'alpha');
  await open.call('PATCH', '/v1/volumes/web-01', { labels: { env: 'test' } });
  const wanted = { volume: 'web-01', repository: 'nightly', checkpoint: 'monday', kind: 'full' };
  const backup = await open.backup(wanted);
  const run = (await open.call('GET', `/v1/runs?volume=web-01&limit=1`)).body.items[0];
  foreign = {
    ...{ storageNode: 'alpha', repository: 'nightly', volume: volume.id, backup: backup.id },
    ...{ checkpoint: backup.checkpointId, run: run.id },
  };
  calls = callsOf((await open.call<Described>('GET', '/openapi.json')).body);
});

afterAll(async () => {
  await api.app.close();
  await open.close();
});

function callsOf({ paths, components }: Described): Call[] {
  const bodyOf = ({ requestBody }: Operation) => {
    const name = /schemas\/(\w+)"/.exec(JSON.stringify(requestBody ?? ''))?.[1];
    return name === undefined ? undefined : components.schemas[name]!.examples![0];
  };
  // Only checkpoints have to be named in a query.
  const queryOf = ({ parameters = [] }: Operation) => {
    const needed = parameters.filter(parameter => parameter.in === 'query' && parameter.required);
    return needed.length === 0 ? '' : `?${needed.map(({ name }) => `${name}=monday`).join('&')}`;
  };
  return Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, operation]) => ({
      name: `${method.toUpperCase()} ${path}`,
      method: method.toUpperCase() as Method,
      url:
        path.replace(/\{(\w+)\}/g, (_, name: string) => foreign[name] ?? randomUUID()) + queryOf(operation),
      body: bodyOf(operation),
    })),
  );
}

const send = ({ method, url, body }: Call, headers = {}) => api.call(method, url, body, headers);

async function tokenOf(wanted: object) {
  const body = { name: `t-${randomUUID()}`, ...wanted };
  return bearer((await api.call('POST', '/v1/tokens', body, asAdmin)).body.secret);
}

test('without a token no call is answered', async () => {
  for (const call of calls.filter(({ url }) => url.startsWith('/v1/'))) {
    if (NEEDS_NO_TOKEN.includes(call.name)) continue;
    const { status, body } = await send(call);
    expect.soft([status, body.code], call.name).toEqual([401, 'unauthenticated']);
  }
});

test('a viewer changes nothing', async () => {
  const headers = await tokenOf({ role: 'viewer' });
  const before = await open.written();
  for (const call of calls.filter(({ method }) => method !== 'GET')) {
    if (NEEDS_NO_TOKEN.includes(call.name) || VIEWERS_POST.includes(call.name)) continue;
    const { status, body } = await send(call, headers);
    expect.soft([status, body?.code], call.name).toEqual([403, 'forbidden']);
  }
  for (const call of calls.filter(({ name }) => VIEWERS_POST.includes(name))) await send(call, headers);
  expect(await open.written()).toEqual(before);
});

test('a scope leaves out what is outside of it, whatever is called', async () => {
  const headers = await tokenOf({ role: 'admin', scope: 'env=prod' });
  const before = await open.written();
  for (const call of calls.filter(({ url }) => url.startsWith('/v1/'))) {
    if (NEEDS_NO_TOKEN.includes(call.name)) continue;
    const { status, body } = await send(call, headers);
    if (SCOPED_DO.includes(call.name)) {
      expect.soft(status, call.name).toBeLessThan(300);
      expect.soft(JSON.stringify(body), call.name).not.toContain(foreign.volume);
    } else expect.soft([403, 404], `${call.name}: ${JSON.stringify(body)}`).toContain(status);
  }
  const { event: _, ...after } = await open.written();
  expect(before).toMatchObject(after);
});
