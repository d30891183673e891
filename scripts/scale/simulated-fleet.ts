// An installation with very many storage nodes: the real api, workers, PostgreSQL and Redis, and storage nodes that
// speak the real contract and hold no bytes.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { QueueServer } from '../crash/queue-server.ts';
import { Stack } from '../stack/stack.ts';

const NODES_PROGRAM = fileURLToPath(new URL('./nodes-process.ts', import.meta.url));
/** Requests of the set-up under way at once. */
const SETUP_CALLS = 24;
const WAIT_MS = 120_000;

export interface FleetSize {
  readonly nodes: number;
  readonly volumes: number;
  readonly workers: number;
}

export class SimulatedFleet {
  readonly stack: Stack;
  readonly database: pg.Client;
  readonly #home: string;
  readonly #queue: QueueServer;
  readonly #nodes: ChildProcess;

  private constructor(parts: {
    stack: Stack;
    database: pg.Client;
    home: string;
    queue: QueueServer;
    nodes: ChildProcess;
  }) {
    this.stack = parts.stack;
    this.database = parts.database;
    this.#home = parts.home;
    this.#queue = parts.queue;
    this.#nodes = parts.nodes;
  }

  /** Storage nodes are online when it resolves, and each tenth has a repository. */
  static async start(size: FleetSize): Promise<SimulatedFleet> {
    const home = await mkdtemp(join(tmpdir(), 'tidemark-scale-'));
    const queue = await QueueServer.start(join(home, 'redis'));
    const nodes = spawn(process.execPath, [NODES_PROGRAM, String(size.nodes)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const [line] = (await once(createInterface({ input: nodes.stdout! }), 'line')) as [string];
    const addresses = JSON.parse(line) as { name: string; controlAddress: string }[];
    const options = { home: join(home, 'stack'), ports: 'free', nodes: [], workers: size.workers } as const;
    const stack = new Stack({ ...options, queueUrl: queue.url });
    await stack.start();
    const database = new pg.Client({ connectionString: stack.databaseUrl });
    await database.connect();
    const fleet = new SimulatedFleet({ stack, database, home, queue, nodes });
    await fleet.#post(addresses.map(body => ['/v1/storage-nodes', body]));
    const repositories = addresses.filter((_, index) => index % 10 === 0);
    await fleet.#post(
      repositories.map(({ name }) => ['/v1/repositories', { name: `repository-${name}`, storageNode: name }]),
    );
    return fleet;
  }

  get pids(): Record<string, number | undefined> {
    return { redis: this.#queue.pid, 'storage nodes': this.#nodes.pid };
  }

  async close(): Promise<void> {
    await this.database.end();
    await this.stack.stop();
    await this.#queue.stop();
    this.#nodes.stdin!.end();
    await once(this.#nodes, 'exit');
    await rm(this.#home, { recursive: true, force: true });
  }

  /** Evenly over the storage nodes and, by their label `slot`, over the slots. Resolves when all runs have ended. */
  async createVolumes({ nodes, volumes }: FleetSize, slots: number): Promise<void> {
    const storageNode = (index: number) => `node-${String((index % nodes) + 1).padStart(3, '0')}`;
    const bodies = Array.from({ length: volumes }, (_, index) => ({
      name: `volume-${String(index + 1).padStart(5, '0')}`,
      storageNode: storageNode(index),
      sizeBytes: 1024 ** 3,
      labels: { slot: String(index % slots) },
    }));
    await this.#post(bodies.map(body => ['/v1/volumes', body]));
  }

  /** One for each slot, hourly, on its own minute. Their ids. */
  async createPolicies(slots: number, { nodes }: FleetSize): Promise<string[]> {
    const repositories = Math.ceil(nodes / 10);
    const ids: string[] = [];
    for (let slot = 0; slot < slots; slot += 1) {
      const repository = `repository-node-${String((slot % repositories) * 10 + 1).padStart(3, '0')}`;
      const answer = await this.call<{ id: string }>('POST', '/v1/policies', {
        name: `hourly-${slot}`,
        selector: `slot=${slot}`,
        schedule: { cron: `${slot % 60} * * * *`, timeZone: 'UTC', missed: 'skip' },
        kind: 'incremental',
        repository,
        concurrency: 100,
        enabled: true,
      });
      ids.push(answer.id);
    }
    return ids;
  }

  async call<T>(method: 'GET' | 'POST', path: string, body?: object): Promise<T> {
    const response = await fetch(`${this.stack.url}${path}`, {
      method,
      ...(body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return JSON.parse(text) as T;
  }

  async #post(calls: readonly [path: string, body: object][]): Promise<void> {
    const rest = calls.values();
    const worker = async () => {
      for (const [path, body] of rest) {
        const query = `?wait=done&waitTimeoutMs=${WAIT_MS}`;
        await this.call('POST', `${path}${query}`, body);
      }
    };
    await Promise.all(Array.from({ length: SETUP_CALLS }, worker));
  }
}
