// Groups that the product takes: asked for over REST, made by its worker, backed up to the vault, and restored from
// there. Trouble comes when the step that the plan names is seen on a host.
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { violations } from '../../apps/storage-node/src/testing/causal-writers.ts';
import { Rest } from '../crash/rest.ts';
import { kill } from '../crash/victims.ts';
import { registerStorageNode } from '../stack/registration.ts';
import { Stack } from '../stack/stack.ts';
import { leftOn, waitFaults } from './checks.ts';
import type { GroupWay, Taken, Verdict } from './group-way.ts';
import type { Host } from './host.ts';
import {
  CHAINS,
  FENCE_LIMIT_MS,
  GROUPS_KEPT_MAX,
  RETRY_MS,
  RUN_MS_MAX,
  SETTLE_MS,
  VOLUME_BYTES,
} from './limits.ts';
import { callOf, type Plan, type Service, type Trouble } from './plan.ts';

/** As short as a lease may be: a group waits for those of dead workers. */
const LEASE_MS = 3_000;
const RETRY_MAX_MS = 1_500;
/** How often it is looked whether a step has begun. */
const LOOK_MS = 2;

interface GroupJson {
  readonly id: string;
  readonly state: string;
  readonly members: readonly { readonly volume: string; readonly backupId: string; readonly state: string }[];
  readonly proof: { readonly nodes: Taken['released'] } | null;
  readonly error: { readonly code: string; readonly message: string } | null;
}

interface TroubleOptions {
  readonly asked: Promise<unknown>;
  readonly cause: (trouble: Trouble) => Promise<void>;
  readonly over: AbortController;
}

export class RestWay implements GroupWay {
  readonly #stack: Stack;
  readonly #killPoints: string;
  readonly #rest: Rest;
  #hosts: readonly Host[] = [];
  #vault: Host | undefined;
  /** Groups that are still there, the oldest first: increments build on them. */
  readonly #kept: string[] = [];
  #last: GroupJson | undefined;
  #runState = '';

  private constructor(stack: Stack, killPoints: string) {
    this.#stack = stack;
    this.#killPoints = killPoints;
    this.#rest = new Rest(stack.urls);
  }

  /** PostgreSQL, api and worker, without a storage node. */
  static async start(home: string, killPoints: string): Promise<RestWay> {
    const stack = new Stack({
      ...{ home, ports: 'free', nodes: [], register: false },
      restartDelayMaxMs: 500,
      environment: {
        TIDEMARK_KILL_POINTS: killPoints,
        TIDEMARK_WORKER_LEASE_MS: String(LEASE_MS),
        TIDEMARK_WORKER_RETRY_MAX_MS: String(RETRY_MAX_MS),
      },
    });
    await stack.start();
    return new RestWay(stack, killPoints);
  }

  /** What storage nodes have to be given. */
  get fleetSecret(): string {
    return this.#stack.fleetSecret;
  }

  /** Makes the hosts, their volumes and the repository known. */
  async furnish(hosts: readonly Host[], vault: Host): Promise<void> {
    this.#hosts = hosts;
    this.#vault = vault;
    for (const host of [...hosts, vault]) {
      const { name, controlAddress } = host;
      await registerStorageNode(this.#stack.url, { name, controlAddress }, AbortSignal.timeout(SETTLE_MS));
    }
    for (const host of hosts) {
      const body = {
        name: `disk-${host.name}`,
        storageNode: host.name,
        sizeBytes: VOLUME_BYTES,
        format: 'raw',
      };
      const { volume } = await this.#rest.make('volumes', body);
      host.volume = await host.clients.volumes.getVolume({ volumeId: volume.id });
    }
    await this.#rest.make('repositories', { name: 'vault', storageNode: vault.name });
  }

  async take(plan: Plan, cause: (trouble: Trouble) => Promise<void>): Promise<Taken> {
    await this.#until('all storage nodes to be online', () => this.#allOnline());
    const over = new AbortController();
    const asked = this.#ask(plan);
    const troubled = plan.trouble && this.#trouble(plan, plan.trouble, { asked, cause, over });
    const { run, group } = await asked;
    const ended = await this.#rest.follow(run.id, () => {}, RUN_MS_MAX);
    over.abort();
    await troubled;
    if (ended === undefined) throw new Error(`the run of group ${plan.number} does not end`);
    await this.#until('runs to have ended', async () => (await this.#openRuns()) === 0);
    await this.#rest.read('storage-nodes?limit=1');
    this.#runState = ended.state;
    this.#last = (await this.#rest.read(`groups/${group.id}`)) as GroupJson;
    const { state, proof, error } = this.#last;
    const kept = state === 'ready' || state === 'incomplete';
    return { kept, reason: kept ? '' : `${error?.code}`, released: proof?.nodes ?? [] };
  }

  async check(): Promise<Verdict> {
    const group = this.#last!;
    const { state } = group;
    const faults = waitFaults({ kept: true, reason: '', released: group.proof?.nodes ?? [] });
    const ends: Record<string, string> = { ready: 'succeeded', incomplete: 'succeeded', failed: 'failed' };
    if (ends[state] !== this.#runState) faults.push(`the group is ${state}, its run ${this.#runState}`);
    await this.#until('storage nodes to be told', async () => (await this.#undecided()) === 0);
    for (const host of this.#hosts) {
      const listed = await this.#rest.list(`volumes/${host.volume.volumeId}/checkpoints`);
      const left = await leftOn(
        host,
        listed.map(({ id }) => id as string),
      );
      faults.push(...left.map(fault => `${host.name}: ${fault}`));
    }
    const restored = state === 'ready';
    if (restored) faults.push(...violations(await this.#restored(group), CHAINS));
    if (restored || state === 'incomplete') this.#kept.push(group.id);
    while (this.#kept.length > GROUPS_KEPT_MAX) await this.#delete(this.#kept.shift()!);
    return { faults, restored };
  }

  async close(): Promise<void> {
    await this.#stack.stop();
  }

  armWorker(point: string): void {
    writeFileSync(join(this.#killPoints, 'worker.armed'), point === '' ? '' : `${point} 1`);
  }

  /** It is started again by the stack. */
  kill(service: Service): void {
    kill({ stack: this.#stack, queueServer: undefined }, service);
  }

  /** By the hosts' names, in the order of their numbers' way. */
  async #restored({ members }: GroupJson): Promise<Buffer[]> {
    const disks = this.#hosts.map(async host => {
      const { backupId } = members.find(({ volume }) => volume === `disk-${host.name}`)!;
      const name = `disk-${backupId}`;
      const target = { file: { name, storageNode: 'vault' } };
      await this.#rest.make('restores', { backup: backupId, target });
      const file = this.#vault!.path('restores', name);
      const disk = readFileSync(file);
      rmSync(file);
      return disk;
    });
    return Promise.all(disks);
  }

  async #ask({ number, completion }: Plan): Promise<{ run: { id: string }; group: { id: string } }> {
    const answer = await this.#insist('POST', 'groups', {
      name: `group-${number}`,
      volumes: this.#hosts.map(({ name }) => `disk-${name}`),
      backup: { repository: 'vault' },
      completion,
      fenceLimitMs: FENCE_LIMIT_MS,
    });
    return answer.body;
  }

  async #delete(groupId: string): Promise<void> {
    const { body } = await this.#insist('DELETE', `groups/${groupId}`);
    const ended = await this.#rest.follow(body.run.id, () => {}, SETTLE_MS);
    if (ended?.state !== 'succeeded') throw new Error(`DELETE group: ${JSON.stringify(ended)}`);
  }

  /** Asks until it is accepted: a host that has just come back may not have been heard of yet. */
  async #insist(method: 'POST' | 'DELETE', path: string, body?: object) {
    const deadline = performance.now() + SETTLE_MS;
    for (;;) {
      const answer = await this.#rest.call(method, path, body);
      if (answer.status === 202) return answer;
      const text = `${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`;
      if (performance.now() > deadline || answer.status === 400) throw new Error(text);
      await delay(RETRY_MS);
    }
  }

  /** Resolves when it is over, or when the group is and the step was not met. */
  async #trouble({ at }: Plan, trouble: Trouble, { asked, cause, over }: TroubleOptions): Promise<void> {
    if (trouble.kind === 'kill-point' || trouble.kind === 'worker-point') return cause(trouble);
    const marks = this.#hosts.map(({ name }) => new PassedPoints(join(this.#killPoints, `${name}.passed`)));
    while (!marks.some(mark => mark.read().includes(`call ${callOf(at.step)}`))) {
      if (over.signal.aborted) return;
      await delay(LOOK_MS);
    }
    await delay(Math.max(0, at.afterMs));
    // Without the api's answer nobody would know which run to follow.
    if (trouble.kind === 'kill-service') await asked;
    await cause(trouble);
  }

  async #allOnline(): Promise<boolean> {
    const items = await this.#rest.list('storage-nodes');
    return items.length === this.#hosts.length + 1 && items.every(({ state }) => state === 'online');
  }

  async #undecided(): Promise<number> {
    const lists = await Promise.all(this.#hosts.map(({ clients }) => clients.groups.listGroups({})));
    return lists.reduce((sum, { groups }) => sum + groups.length, 0);
  }

  /** Undefined while PostgreSQL does not answer. */
  async #openRuns(): Promise<number | undefined> {
    const client = new Client({ connectionString: this.#stack.databaseUrl });
    client.on('error', () => {}); // the query's rejection tells
    try {
      await client.connect();
      const open = "SELECT id FROM run WHERE state IN ('queued', 'running') OR cleanup_pending";
      return (await client.query(open)).rows.length;
    } catch {
      return undefined;
    } finally {
      await client.end();
    }
  }

  async #until(what: string, look: () => Promise<boolean>): Promise<void> {
    const deadline = performance.now() + SETTLE_MS;
    while (!(await look())) {
      if (performance.now() > deadline) throw new Error(`waited ${SETTLE_MS / 1000} s for ${what}`);
      await delay(RETRY_MS);
    }
  }
}

/** What a service has passed since this was made. */
class PassedPoints {
  readonly #path: string;
  #offset: number;

  constructor(path: string) {
    this.#path = path;
    this.#offset = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  }

  read(): string {
    const size = statSync(this.#path, { throwIfNoEntry: false })?.size ?? 0;
    if (size <= this.#offset) return '';
    const bytes = readFileSync(this.#path).subarray(this.#offset);
    this.#offset += bytes.length;
    return bytes.toString('utf8');
  }
}
