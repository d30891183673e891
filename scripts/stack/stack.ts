// The whole system on one machine: PostgreSQL, the api, the worker and the storage nodes, each its own
// process, with all their state under one folder.
//
// Start: lock → stop orphans → PostgreSQL → migrations → storage nodes, worker → api → registration.
// Stop: the other way round. A stack that was killed is recovered by the next start on its folder.

import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { applyMigrations } from '@tidemark/catalog';
import { type EmbeddedPostgres, startPostgres } from '../postgres/embedded-postgres.mjs';
import { clearPostmaster } from '../postgres/postmaster.mjs';
import { tryLock } from '../process/lock-file.mjs';
import { rootFolder } from '../setup/find-node.mjs';
import { ChildRecord, HOME_VARIABLE } from './children.ts';
import { Home } from './home.ts';
import {
  RESTART_DELAY_MAX_MS,
  RESTART_DELAY_MIN_MS,
  STOP_SERVICES_MS,
  STOP_STORAGE_NODES_MS,
} from './limits.ts';
import { registerStorageNode, waitForApi } from './registration.ts';
import { Service } from './service.ts';

/** `fixed`: the documented port where it is free on the first start. `free`: any free one. */
export type PortChoice = 'fixed' | 'free';

export interface StackOptions {
  /** Folder of all state and logs; made if there is none. */
  home: string;
  ports?: PortChoice;
  /** Names of the storage nodes. Default: alpha and beta. */
  nodes?: readonly string[];
  /** How many of each there are, `api`, `api-2` and so on. Default: one. */
  apis?: number;
  workers?: number;
  /** Whether to register the storage nodes with the api. Default: yes. */
  register?: boolean;
  /** `redis://…` or `postgres://…`. Default: the stack's own PostgreSQL. */
  queueUrl?: string;
  /** Checkout whose services run, set up as this one is. Default: this one. */
  checkout?: string;
  /** Environment of the services beside what the stack sets. */
  environment?: NodeJS.ProcessEnv;
  /** More of it, for the service of that name; `postgres` has nothing else of it. */
  environmentOf?(service: string): NodeJS.ProcessEnv;
  /** A service that ends again and again is started again after at most this long. */
  restartDelayMaxMs?: number;
  /** One line for each thing an operator should know: orphans, ends, restarts. */
  onNotice?(line: string): void;
}

export interface StackNode {
  name: string;
  controlAddress: string;
  nbdAddress: string;
  stateDir: string;
}

const DEFAULT_PORTS = { api: 7400, postgres: 7432, control: 7411, nbd: 10_809 };
const HOST = '127.0.0.1';

export class Stack {
  readonly #options: Required<Omit<StackOptions, 'queueUrl'>> & Pick<StackOptions, 'queueUrl'>;
  readonly #home: Home;
  readonly #children: ChildRecord;
  readonly #stopping = new AbortController();
  readonly #services = new Map<string, Service>();
  #lock: { release(): void } | null = null;
  #postgres: EmbeddedPostgres | null = null;
  #nodes: StackNode[] = [];
  #urls: string[] = [];
  #starting: Promise<void> = Promise.resolve();
  #restarting: Promise<void> = Promise.resolve();
  #stopped: Promise<void> | null = null;

  /** Makes the home folder; starts nothing. */
  constructor(options: StackOptions) {
    this.#options = {
      ports: 'fixed',
      nodes: ['alpha', 'beta'],
      apis: 1,
      workers: 1,
      register: true,
      environment: {},
      environmentOf: () => ({}),
      restartDelayMaxMs: RESTART_DELAY_MAX_MS,
      checkout: rootFolder,
      onNotice: () => {},
      ...options,
    };
    this.#home = new Home(options.home);
    this.#children = new ChildRecord(this.#home.path('children.json'), this.#home.folder);
  }

  get home(): string {
    return this.#home.folder;
  }

  get #dataDir(): string {
    return this.#home.path('postgres');
  }

  /** Of the first api, once started. */
  get url(): string {
    return this.#urls[0] ?? '';
  }

  /** Of every api. */
  get urls(): readonly string[] {
    return this.#urls;
  }

  get databaseUrl(): string {
    return this.#postgres?.url ?? '';
  }

  /** What storage nodes beside those of the stack have to be given. */
  get fleetSecret(): string {
    return this.#home.fleetSecret;
  }

  get postgresPid(): number | null {
    return this.#postgres?.pid ?? null;
  }

  get nodes(): readonly StackNode[] {
    return this.#nodes;
  }

  /** The services by name (`api`, `worker`, `worker-2`, the storage nodes), for their process ids and logs. */
  get services(): ReadonlyMap<string, Pick<Service, 'name' | 'pid' | 'logPath' | 'stop'>> {
    return this.#services;
  }

  /** Resolves when everything answers. When it rejects, nothing of it runs any more. */
  start(): Promise<void> {
    this.#starting = this.#start();
    return this.#starting.catch(async error => {
      await this.stop();
      throw error;
    });
  }

  /** Stops all in reverse order, within fifteen seconds. Also during `start`, which then rejects. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #start(): Promise<void> {
    this.#takeLock();
    const orphans = await this.#children.stopOrphans();
    // Before ports are looked at: an orphan holds the one it is to have again.
    if ((await clearPostmaster(this.#dataDir)) === 'stopped') orphans.push('postgres');
    if (orphans.length > 0) this.#options.onNotice(`stopped what a killed run left: ${orphans.join(', ')}`);
    const port = await this.#port('postgres', DEFAULT_PORTS.postgres);
    await this.#startPostgres(port);
    await applyMigrations(this.databaseUrl);
    await this.#planNodes();
    const nodes = this.#nodes.map(node => this.#nodeService(node));
    const catalog = {
      TIDEMARK_FLEET_SECRET: this.fleetSecret,
      TIDEMARK_DATABASE_URL: this.databaseUrl,
      TIDEMARK_QUEUE_URL: this.#options.queueUrl ?? this.databaseUrl,
    };
    const workers = numbered('worker', this.#options.workers).map(name =>
      this.#service(name, 'worker', catalog),
    );
    const apis = await this.#planApis(catalog);
    await settleAll([...nodes, ...workers, ...apis].map(service => this.#startService(service)));
    const signal = this.#stopping.signal;
    await settleAll(this.#urls.map(url => waitForApi(url, signal)));
    if (!this.#options.register) return;
    // One after the other: lists show them in this order.
    for (const node of this.#nodes) await registerStorageNode(this.url, node, signal);
  }

  async #stop(): Promise<void> {
    this.#stopping.abort(new Error('the stack is being stopped'));
    const nodes = this.#nodes.flatMap(node => this.#services.get(node.name) ?? []);
    const users = [...this.#services.values()].filter(service => !nodes.includes(service));
    await Promise.all(users.map(service => service.stop(STOP_SERVICES_MS)));
    await Promise.all(nodes.map(service => service.stop(STOP_STORAGE_NODES_MS)));
    await this.#starting.catch(() => {}); // whoever called start is told
    await this.#restarting; // ends because the stack is being stopped
    await this.#postgres?.stop();
    this.#lock?.release();
  }

  #takeLock(): void {
    const lock = tryLock(this.#home.path('stack.lock'));
    if ('holder' in lock) {
      throw new Error(
        `a stack already runs in ${this.home} (process ${lock.holder}): stop it with Ctrl-C or ` +
          `\`kill ${lock.holder}\`, or set TIDEMARK_HOME to another folder`,
      );
    }
    this.#lock = lock;
  }

  async #startPostgres(port: number): Promise<void> {
    const postgres = await startPostgres({
      dataDir: this.#dataDir,
      log: this.#home.path('logs', 'postgres.log'),
      port,
      user: 'tidemark',
      password: this.#home.databasePassword,
      environment: this.#options.environmentOf('postgres'),
    });
    this.#postgres = postgres;
    postgres.exited.then(({ code, signal }) => {
      if (this.#stopping.signal.aborted) return;
      this.#options.onNotice(`postgres ended unasked (${signal ?? `exit code ${code}`}); starting it again`);
      // It rejects as soon as the stack is being stopped, and then nobody may be waiting yet.
      this.#restarting = this.#restartPostgres(port).catch(() => {});
    });
    this.#stopping.signal.throwIfAborted();
  }

  /** Until it runs or the stack is stopped: without it nothing else gets on. */
  async #restartPostgres(port: number): Promise<void> {
    for (
      let waitMs = RESTART_DELAY_MIN_MS;
      ;
      waitMs = Math.min(waitMs * 2, this.#options.restartDelayMaxMs)
    ) {
      await delay(waitMs, undefined, { signal: this.#stopping.signal });
      try {
        return await this.#startPostgres(port);
      } catch (error) {
        if (!this.#stopping.signal.aborted) this.#options.onNotice((error as Error).message);
      }
    }
  }

  #port(name: string, preferred: number, isKnownElsewhere = false): Promise<number> {
    return this.#home.port(name, this.#options.ports === 'fixed' ? preferred : null, { isKnownElsewhere });
  }

  async #planNodes(): Promise<void> {
    for (const [index, name] of this.#options.nodes.entries()) {
      const control = await this.#port(`${name} control`, DEFAULT_PORTS.control + index, true);
      const nbd = await this.#port(`${name} nbd`, DEFAULT_PORTS.nbd + index, true);
      const stateDir = this.#home.path('nodes', name);
      this.#nodes.push({
        name,
        controlAddress: `${HOST}:${control}`,
        nbdAddress: `${HOST}:${nbd}`,
        stateDir,
      });
    }
  }

  /** The first at the documented port. */
  async #planApis(catalog: NodeJS.ProcessEnv): Promise<Service[]> {
    const services: Service[] = [];
    for (const [index, name] of numbered('api', this.#options.apis).entries()) {
      const port =
        index === 0 ? await this.#port(name, DEFAULT_PORTS.api) : await this.#home.port(name, null);
      const scheme = this.#options.environment.TIDEMARK_API_TLS_CERT_FILE ? 'https' : 'http';
      this.#urls.push(`${scheme}://${HOST}:${port}`);
      services.push(this.#service(name, 'api', { ...catalog, TIDEMARK_API_LISTEN: `${HOST}:${port}` }));
    }
    return services;
  }

  #nodeService(node: StackNode): Service {
    return this.#service(node.name, 'storage-node', {
      TIDEMARK_NODE_NAME: node.name,
      TIDEMARK_STATE_DIR: node.stateDir,
      TIDEMARK_FLEET_SECRET: this.fleetSecret,
      TIDEMARK_CONTROL_LISTEN: node.controlAddress,
      TIDEMARK_NBD_LISTEN: node.nbdAddress,
    });
  }

  #service(name: string, app: string, environment: NodeJS.ProcessEnv): Service {
    const service = new Service({
      name,
      program: join(this.#options.checkout, 'apps', app, 'src', 'main.ts'),
      environment: {
        ...this.#baseEnvironment(),
        ...environment,
        ...this.#options.environmentOf(name),
        [HOME_VARIABLE]: this.home,
      },
      restartDelayMaxMs: this.#options.restartDelayMaxMs,
      logPath: this.#home.path('logs', `${name}.log`),
      onStarted: (_name, pid) => this.#children.add(name, pid),
      onEnded: (_name, reason) => {
        this.#children.remove(name);
        if (reason !== null) this.#options.onNotice(`${name} ended unasked (${reason}); starting it again`);
      },
    });
    this.#services.set(name, service);
    return service;
  }

  async #startService(service: Service): Promise<void> {
    this.#stopping.signal.throwIfAborted();
    await service.start();
  }

  /** Ours without settings meant for a service started by hand. */
  #baseEnvironment(): NodeJS.ProcessEnv {
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('TIDEMARK_'));
    return { ...Object.fromEntries(inherited), ...this.#options.environment };
  }
}

/** `api`, `api-2`, `api-3`. */
function numbered(name: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => (index === 0 ? name : `${name}-${index + 1}`));
}

/** Waits for all, so that none is still starting when the first failure is reported. */
async function settleAll(work: Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(work);
  const failed = results.filter(result => result.status === 'rejected').map(result => result.reason);
  if (failed.length === 1) throw failed[0];
  if (failed.length > 1) throw new Error(failed.map(error => (error as Error).message).join('\n\n'));
}
