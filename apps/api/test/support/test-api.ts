// A whole api on a database of its own, and a hand that does what a worker would do to runs and nouns.
import { createTestDatabase, inDatabase, type TestDatabase } from '@tidemark/catalog/testing';
import type { FastifyInstance, InjectOptions } from 'fastify';
import { expect } from 'vitest';
import { type AppOptions, buildApp } from '../../src/app.ts';
import type { Problem } from '../../src/schemas/problem.ts';

const LEASE_MS = 60_000;
export const TEST_WEBHOOK_KEY = 'webhook-key-of-tests-0123456789abcdef';
const NOUNS = ['storage_node', 'volume', 'checkpoint', 'snapshot', 'volume_commit', 'repository', 'backup'];
const POLICIES = ['policy', 'policy_firing', 'policy_firing_member', 'policy_firing_replica'];
const TABLES = [...NOUNS, ...POLICIES, 'checkpoint_group', 'backup_lease', 'run', 'event'];

export type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE';

export interface Answer<T> {
  status: number;
  headers: Record<string, unknown>;
  body: T;
}

/** Of the API's description, which takes a while to make and is the same for every api. */
let paths: Record<string, Record<string, { responses: object }>> | undefined;

export class TestApi {
  readonly app: FastifyInstance;
  readonly database: TestDatabase;

  private constructor(app: FastifyInstance, database: TestDatabase) {
    this.app = app;
    this.database = database;
  }

  static async start(options: Partial<AppOptions> = {}): Promise<TestApi> {
    const database = await createTestDatabase();
    return TestApi.on(database, options);
  }

  /** One more api on a database that is there. */
  static async on(database: TestDatabase, options: Partial<AppOptions> = {}): Promise<TestApi> {
    const webhookKeys = [TEST_WEBHOOK_KEY];
    const app = await buildApp({
      databaseUrl: database.url,
      queueUrl: database.url,
      webhookKeys,
      ...options,
    });
    return new TestApi(app, database);
  }

  async close(): Promise<void> {
    await this.app.close();
    await this.database.drop();
  }

  // biome-ignore lint/suspicious/noExplicitAny: the shape of an answer is what the tests look at
  async call<T = any>(
    method: Method,
    url: string,
    body?: object,
    headers: Record<string, string> = {},
  ): Promise<Answer<T>> {
    const options: InjectOptions = { method, url, headers, ...(body && { payload: body }) };
    const answer = await this.app.inject(options);
    const isEmpty = answer.body === '';
    return {
      status: answer.statusCode,
      headers: answer.headers,
      body: isEmpty ? (null as T) : answer.json(),
    };
  }

  /** Counts of all rows: equal before and after means that nothing was written. */
  async written(): Promise<Record<string, number>> {
    const columns = TABLES.map(table => `(SELECT count(*)::int FROM ${table}) AS ${table}`);
    return inDatabase(this.database.url, async client => (await client.query(`SELECT ${columns}`)).rows[0]);
  }

  /** Expects a problem document with this code, and that the call left no trace. Returns the document. */
  async refused(code: string, method: Method, url: string, body?: object): Promise<Problem> {
    const before = await this.written();
    const answer = await this.call<Problem>(method, url, body);
    expect(answer.body).toMatchObject({ code, status: answer.status, type: `urn:tidemark:problem:${code}` });
    expect(answer.body.instance).toBe(url.split('?')[0]);
    expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/);
    expect(this.#described(method, url), `${code} among the answers of ${method} ${url}`).toContain(code);
    expect(await this.written()).toEqual(before);
    return answer.body;
  }

  /** The codes that the API's description has for the call; of one that it does not list the only one there is. */
  #described(method: Method, url: string): string[] {
    const path = url.split('?')[0]!;
    paths ??= (this.app.swagger() as unknown as { paths: NonNullable<typeof paths> }).paths;
    const fits = (pattern: string) => new RegExp(`^${pattern.replace(/\{\w+\}/g, '[^/]+')}$`).test(path);
    const names = (pattern: string) => pattern.split('{').length;
    // What is written out goes before a name in its place.
    const [known] = Object.keys(paths)
      .filter(fits)
      .sort((a, b) => names(a) - names(b));
    const call = paths[known ?? '']?.[method.toLowerCase()];
    if (call === undefined) return ['route-not-found'];
    return [...JSON.stringify(call.responses).matchAll(/`([a-z-]+)`/g)].map(match => match[1]!);
  }

  /** A storage node that has joined and answers. */
  async storageNode(name: string, controlAddress = `${name}.example:7411`): Promise<{ id: string }> {
    const { app } = this;
    const { status, body } = await this.call('POST', '/v1/storage-nodes', { name, controlAddress });
    if (status !== 202) throw new Error(`POST /v1/storage-nodes: ${status} ${JSON.stringify(body)}`);
    const { id } = body.storageNode;
    await app.catalog.storageNodes.markOnline(id, {
      instanceId: id,
      nbdAddress: `${name}.example:10809`,
      version: '0.1.0',
      capacityBytes: 1_000_000,
      availableBytes: 500_000,
    });
    await (await this.worker(body.run.id)).succeed();
    return { id };
  }

  async volume(name: string, storageNode: string, sizeBytes = 1_048_576): Promise<{ id: string }> {
    const { body } = await this.call('POST', '/v1/volumes', { name, storageNode, sizeBytes });
    const exportUri = `nbd://${storageNode}.example:10809/${name}`;
    await this.app.catalog.volumes.markReady(body.volume.id, { exportUri, sizeBytes }, body.run.id);
    await (await this.worker(body.run.id)).succeed();
    return { id: body.volume.id };
  }

  async repository(name: string, storageNode: string): Promise<{ id: string }> {
    const { body } = await this.call('POST', '/v1/repositories', { name, storageNode });
    await this.app.catalog.repositories.markReady(body.repository.id, body.run.id);
    await (await this.worker(body.run.id)).succeed();
    return { id: body.repository.id };
  }

  /** A finished backup, with its checkpoint. */
  async backup(request: object): Promise<{ id: string; checkpointId: string }> {
    const { body } = await this.call('POST', '/v1/backups', request);
    const { id, checkpointId } = body.backup;
    const worker = await this.worker(body.run.id);
    await worker.reachCheckpoint();
    await this.finishBackup(id, body.run.id);
    await worker.succeed();
    return { id, checkpointId };
  }

  async finishBackup(id: string, runId: string): Promise<void> {
    const facts = { storedBytes: 65_536, sentBytes: 4096, fileName: `${id}.qcow2` };
    await this.app.catalog.backups.markAvailable(id, facts, runId);
  }

  /** Takes the run as a worker does; from then on it is running. */
  async worker(runId: string): Promise<HandWorker> {
    const claim = { owner: 'test', leaseMs: LEASE_MS, attempt: 1 };
    const claimed = await this.app.catalog.leases.claim(runId, claim);
    return new HandWorker(this.app, claimed!);
  }
}

type Claimed = NonNullable<Awaited<ReturnType<FastifyInstance['catalog']['leases']['claim']>>>;

export class HandWorker {
  readonly #app: FastifyInstance;
  readonly #claimed: Claimed;

  constructor(app: FastifyInstance, claimed: Claimed) {
    this.#app = app;
    this.#claimed = claimed;
  }

  async step(name: string): Promise<void> {
    await this.#app.catalog.leases.startStep(this.#claimed.lease, name);
    await this.#app.catalog.leases.finishStep(this.#claimed.lease, name, {});
  }

  async reachCheckpoint(at = new Date('2026-11-21T08:00:00.000Z')): Promise<void> {
    const { checkpointId } = this.#claimed.run;
    if (checkpointId) await this.#app.catalog.checkpoints.markReady(checkpointId, at, this.#claimed.run.id);
    await this.#app.catalog.leases.update(this.#claimed.lease, { checkpointAt: at });
  }

  succeed(result = {}): Promise<void> {
    return this.#app.catalog.leases.finish(this.#claimed.lease, { state: 'succeeded', result });
  }

  async fail(error: { code: string; message: string }): Promise<void> {
    await this.#app.catalog.leases.beginUndo(this.#claimed.lease, error);
    await this.#app.catalog.leases.finish(this.#claimed.lease, { state: 'failed', error });
  }

  cancel(): Promise<void> {
    return this.#app.catalog.leases.finish(this.#claimed.lease, { state: 'cancelled' });
  }
}
