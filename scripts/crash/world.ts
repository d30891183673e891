// One installation under test: the real services, two storage nodes with a disk and a repository each, a guest on
// each disk, and what is known of every checkpoint and backup.
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { connectStorageNode, type StorageNodeClients } from '@tidemark/proto';
import { Client } from 'pg';
import { SeededRandom } from '../../packages/engine/src/testing/seeded-random.ts';
import { Stack } from '../stack/stack.ts';
import { DiskModel, type Window } from './disk-model.ts';
import { EventFollower } from './event-follower.ts';
import { Facts } from './facts.ts';
import { Guest } from './guest.ts';
import {
  DISK_BLOCKS,
  DISK_BYTES,
  DISK_LABELS,
  LEASE_MS,
  POLL_MS,
  REQUEST_TIMEOUT_MS,
  SETTLE_MS,
} from './limits.ts';
import type { OperationEnd } from './operation.ts';
import { QueueServer } from './queue-server.ts';
import { Rest } from './rest.ts';
import type { SpareGuest } from './spare-guest.ts';
import { pidOf, processesOf } from './victims.ts';
import { SENT_KINDS, WebhookSink } from './webhook-sink.ts';

/** Each has a guest's disk and the repository of the other's. */
const DISK_NODES = ['alpha', 'beta'] as const;
/** Volumes are made here, restored here and moved here, and it is cordoned and drained. */
export const SPARE_NODE = 'gamma';
export const NODES = [...DISK_NODES, SPARE_NODE] as const;
const RETRY_MAX_MS = 1_500;
const REPLICATION_RETRY_MS = 1_000;
const RESTART_DELAY_MAX_MS = 500;

/** What a name that an operation chose stands for. */
export interface Known {
  readonly name: string;
  readonly window: Window;
}

export interface Disk {
  readonly name: string;
  readonly node: string;
  readonly format: 'raw' | 'qcow2';
  readonly id: string;
  /** On the other storage node. */
  readonly repository: string;
  readonly repositoryId: string;
  readonly repositoryNode: string;
  readonly guest: Guest;
  /** Points in time by the name of their checkpoint, which no other ever has. */
  readonly known: Map<string, Known>;
  /** Backups that were read and found right, by id. */
  readonly proven: Set<string>;
}

/** In place of a checkpoint's name: a restore in place was begun and did not succeed. */
export const MIXED = 'mixed';

export type Queue = 'postgres' | 'redis';

export class World {
  readonly stack: Stack;
  readonly queueServer: QueueServer | undefined;
  readonly rest: Rest;
  readonly facts: Facts;
  readonly disks: Disk[] = [];
  /** Files of restores, by storage node, and how those ended: only what succeeded has to be there. */
  readonly restoredFiles = new Map<string, Map<string, OperationEnd>>(NODES.map(node => [node, new Map()]));
  /** Whose contents files and volumes of that name hold. */
  readonly restoredOf = new Map<string, Disk>();
  /** Restored volumes that were restored over, by name: the checkpoint that they hold by now. */
  readonly overwritten = new Map<string, string>();
  readonly follower: EventFollower;
  readonly sink: WebhookSink;
  /** Up to these events both were compared with what there is. */
  eventsSeenUpTo = 0;
  eventsSentFrom = 0;
  /** Volumes with a guest of their own, while they are there. */
  readonly spares = new Map<string, SpareGuest>();
  /** By the name of a drain: the volumes that were there before it. */
  readonly drained = new Map<string, readonly string[]>();
  /** As an answer told; undefined: it got lost. */
  isCordoned: boolean | undefined = false;
  /** Runs that failed in earlier rounds, and prunes that rules of replication started in them. */
  readonly failuresSeen = new Set<string>();
  rulePrunesSeen = 0;
  readonly #notices: string[];

  /** In words: its queue, and how many of each process that there may be several of. */
  get shape(): string {
    const { stack, queueServer } = this;
    const workers = processesOf(this, 'worker').length;
    const queue = queueServer === undefined ? 'postgres' : 'redis';
    return `${queue}, ${stack.urls.length} of api, ${workers} of worker`;
  }

  private constructor(stack: Stack, queueServer: QueueServer | undefined, notices: string[]) {
    this.stack = stack;
    this.rest = new Rest(stack.urls);
    this.facts = new Facts(this.rest);
    this.follower = new EventFollower(stack.urls);
    this.sink = new WebhookSink(new SeededRandom(stack.urls.length));
    this.queueServer = queueServer;
    this.#notices = notices;
  }

  /** Starts everything. `seed`: of the guests. */
  static async create(options: {
    home: string;
    killPoints: string;
    compileCache: string;
    seed: number;
    queue: Queue;
    apis: number;
    workers: number;
  }): Promise<World> {
    const notices: string[] = [];
    const queueServer =
      options.queue === 'redis' ? await QueueServer.start(join(options.home, 'queue')) : undefined;
    const stack = new Stack({
      home: options.home,
      ports: 'free',
      nodes: NODES,
      apis: options.apis,
      workers: options.workers,
      restartDelayMaxMs: RESTART_DELAY_MAX_MS,
      environment: {
        TIDEMARK_KILL_POINTS: options.killPoints,
        TIDEMARK_WORKER_LEASE_MS: String(LEASE_MS),
        TIDEMARK_WORKER_RETRY_MAX_MS: String(RETRY_MAX_MS),
        TIDEMARK_REPLICATION_RETRY_MS: String(REPLICATION_RETRY_MS),
        // Services are started a thousand times.
        NODE_COMPILE_CACHE: options.compileCache,
      },
      environmentOf: service => ({ TIDEMARK_QMP_LISTEN: qmpPath(options.home, service) }),
      onNotice: line => notices.push(line),
      ...(queueServer !== undefined && { queueUrl: queueServer.url }),
    });
    await stack.start().catch(async error => {
      await queueServer?.stop();
      throw error;
    });
    const world = new World(stack, queueServer, notices);
    try {
      await world.#furnish(options.seed);
    } catch (error) {
      await world.close();
      throw error;
    }
    return world;
  }

  /** What the stack told of ends and restarts since the last time. */
  takeNotices(): string[] {
    return this.#notices.splice(0);
  }

  stateDir(node: string): string {
    return this.stack.nodes.find(({ name }) => name === node)!.stateDir;
  }

  qmpPath(node: string): string {
    return qmpPath(this.stack.home, node);
  }

  /** Calls a storage node itself. Rejects when it does not answer. */
  async onStorageNode<T>(name: string, use: (clients: StorageNodeClients) => Promise<T>): Promise<T> {
    const { controlAddress: address } = this.stack.nodes.find(node => node.name === name)!;
    const clients = connectStorageNode({ name, address, fleetSecret: this.stack.fleetSecret });
    try {
      return await use(clients);
    } finally {
      clients.close();
    }
  }

  /** Resolves when every process runs and answers. Rejects when that takes too long. */
  async servicesAreBack(): Promise<void> {
    await this.#until('the services to be back', async () => {
      const services = [...this.stack.services.keys()];
      const names = [...services, 'postgres', ...(this.queueServer === undefined ? [] : ['redis'])];
      if (names.some(name => pidOf(this, name) === undefined)) return false;
      const ready = await Promise.all(
        this.stack.urls.map(url => fetch(`${url}/readyz`, { signal: AbortSignal.timeout(SETTLE_MS) })),
      );
      if (!ready.every(({ ok }) => ok)) return false;
      // One that was killed a moment ago still counts as online.
      await Promise.all(
        this.stack.nodes.map(({ name }) =>
          this.onStorageNode(name, clients => clients.storageNode.getStatus({})),
        ),
      );
      const { body } = await this.rest.call('GET', 'storage-nodes');
      return body.items.every((node: { state: string }) => node.state === 'online');
    });
  }

  /** Resolves when no run is under way or has something to clean up. Rejects with those that hang. */
  async runsHaveEnded(): Promise<void> {
    let left: string[] = [];
    await this.#until(
      () => `the end of ${left.join(', ')}`,
      async () => {
        const rows = await this.query<{ kind: string; id: string; state: string }>(
          "SELECT id, kind, state FROM run WHERE state IN ('queued', 'running') OR cleanup_pending " +
            "UNION SELECT id, 'firing', state FROM policy_firing WHERE state IN ('planned', 'running')",
        );
        left = rows.map(({ kind, id, state }) => `${kind} ${id} (${state})`);
        return left.length === 0;
      },
    );
  }

  async query<Row extends object>(text: string): Promise<Row[]> {
    // PostgreSQL may die while it is asked: neither a connection nor an answer is sure to come, or to fail.
    const client = new Client({
      connectionString: this.stack.databaseUrl,
      connectionTimeoutMillis: REQUEST_TIMEOUT_MS,
      query_timeout: REQUEST_TIMEOUT_MS,
    });
    client.on('error', () => {}); // the query's rejection tells
    await client.connect();
    try {
      return (await client.query<Row>(text)).rows;
    } finally {
      void client.end().catch(() => {});
    }
  }

  async close(): Promise<void> {
    for (const disk of this.disks) await disk.guest.close();
    await this.follower.stop();
    await this.stack.stop();
    await this.queueServer?.stop();
    this.sink.close();
  }

  async #furnish(seed: number): Promise<void> {
    const clock = { now: 0 };
    this.follower.start();
    const url = await this.sink.listen();
    const { secret } = await this.rest.make('webhooks', { name: 'sink', url, kinds: SENT_KINDS });
    this.sink.expectSecret(secret);
    const [newest] = await this.query<{ id: string }>('SELECT coalesce(max(id), 0) AS id FROM event');
    this.eventsSentFrom = Number(newest!.id);
    for (const [index, node] of DISK_NODES.entries()) {
      const repositoryNode = DISK_NODES[1 - index]!;
      const name = `disk-${node}`;
      const repository = `vault-${repositoryNode}`;
      const format = index === 0 ? 'raw' : 'qcow2';
      const made = await this.rest.make('volumes', {
        name,
        storageNode: node,
        sizeBytes: DISK_BYTES,
        format,
        labels: DISK_LABELS,
      });
      this.facts.adoptVolume(name);
      const vault = await this.rest.make('repositories', { name: repository, storageNode: repositoryNode });
      const random = new SeededRandom(seed + index);
      const model = new DiskModel(DISK_BLOCKS, clock);
      this.disks.push({
        name,
        node,
        format,
        id: made.volume.id,
        repository,
        repositoryId: vault.repository.id,
        repositoryNode,
        guest: new Guest({ uri: made.volume.exportUri, model, random }),
        known: new Map(),
        proven: new Set(),
      });
    }
    const [{ repository: source }, { repository: target }] = this.disks as [Disk, Disk];
    this.facts.adoptRepositories({ source, target });
  }

  async #until(what: string | (() => string), look: () => Promise<boolean>): Promise<void> {
    const deadline = performance.now() + SETTLE_MS;
    for (;;) {
      if (await look().catch(() => false)) return;
      if (performance.now() > deadline) {
        throw new Error(`waited ${SETTLE_MS / 1000} s for ${typeof what === 'string' ? what : what()}`);
      }
      await delay(POLL_MS);
    }
  }
}

function qmpPath(home: string, service: string): string {
  return join(home, `${service}.qmp`);
}
