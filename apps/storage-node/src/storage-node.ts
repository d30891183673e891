// One storage node: puts state, exports, repositories and the control service together, and starts and
// stops them in the order in which they need each other.
import { BlockGraph, systemClock } from '@tidemark/engine';
import {
  type HealthServer,
  killPoints,
  type PassPoint,
  type StorageNodeStatus,
  startHealthServer,
} from '@tidemark/proto';
import type { Logger } from 'pino';
import type { StorageNodeConfig } from './config.ts';
import { type ExportEvent, NbdExports } from './exports/nbd-exports.ts';
import { type GroupServices, groupServices } from './group/group-services.ts';
import { checkpointService } from './grpc/checkpoint-service.ts';
import { groupService } from './grpc/group-service.ts';
import type { CallContext } from './grpc/handlers.ts';
import { jobService } from './grpc/job-service.ts';
import { repositoryService } from './grpc/repository-service.ts';
import { GrpcServer, type GrpcService, type Refusal } from './grpc/server.ts';
import { snapshotService } from './grpc/snapshot-service.ts';
import { storageNodeService } from './grpc/storage-node-service.ts';
import { volumeService } from './grpc/volume-service.ts';
import { diskSpace } from './host/disk-space.ts';
import { FleetMembership } from './host/fleet-membership.ts';
import { type Identity, loadIdentity } from './host/identity.ts';
import type { JobSnapshot } from './host/job-record.ts';
import { JobRunner } from './host/job-runner.ts';
import { NodeMetrics } from './host/node-metrics.ts';
import { StateStore } from './host/state-store.ts';
import { StepLedger } from './host/step-ledger.ts';
import { formatHostPort } from './host-port.ts';
import { AuditRunner } from './moment/audit-runner.ts';
import { type MomentServices, momentServices } from './moment/moment-services.ts';
import { QmpService } from './qmp/qmp-service.ts';
import { ReplicationRunner } from './replication/replication-runner.ts';
import { CheckRunner } from './repository/check-runner.ts';
import { RemovalRunner } from './repository/removal-runner.ts';
import { RepositoryStore } from './repository/repository-store.ts';
import { VerifyRunner } from './repository/verify-runner.ts';
import { RestoreRunner } from './restore/restore-runner.ts';
import { StreamRunner } from './restore/stream-runner.ts';
import { CommitRunner } from './volume/commit-runner.ts';
import { MoveRunner } from './volume/move-runner.ts';
import { VolumeRegistry } from './volume/volume-registry.ts';

export interface StorageNodeOptions {
  readonly config: StorageNodeConfig;
  readonly log: Logger;
  readonly now: () => number;
  readonly version: string;
  /** Whether metrics of process and runtime are shown, which a process has once. Default false. */
  readonly runtimeMetrics?: boolean;
  /** For tests alone: see GroupHost. */
  readonly fencesOff?: boolean;
  /** For tests alone: told between durable steps; default: as the settings have it. */
  readonly pass?: PassPoint;
}

interface Started {
  readonly startedAtMs: number;
  readonly identity: Identity;
}

export class StorageNode {
  readonly #config: StorageNodeConfig;
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #version: string;
  readonly #store: StateStore;
  readonly #ledger: StepLedger;
  readonly #exports: NbdExports;
  readonly #repositories: RepositoryStore;
  readonly #volumes: VolumeRegistry;
  readonly #jobs: JobRunner;
  readonly #metrics: NodeMetrics;
  readonly #frozen: MomentServices;
  readonly #together: GroupServices;
  readonly #restores: RestoreRunner;
  readonly #streams: StreamRunner;
  readonly #commits: CommitRunner;
  readonly #audits: AuditRunner;
  readonly #moves: MoveRunner;
  readonly #grpc: GrpcServer;
  /** Where operators want one. */
  readonly #qmp: QmpService | undefined;
  /** How to undo what `start` has done so far, last first. */
  readonly #undo: (() => Promise<void>)[] = [];
  #started: Started | undefined;
  #health: HealthServer | undefined;

  constructor(options: StorageNodeOptions) {
    const { config, log, now } = options;
    this.#config = config;
    this.#log = log;
    this.#now = now;
    this.#version = options.version;
    const pass = options.pass ?? killPoints(config.killPoints, config.nodeName);
    this.#store = new StateStore({ folder: config.stateDir, pass });
    this.#ledger = stepLedger(this.#store, log, pass);
    this.#exports = new NbdExports({
      listen: config.nbdListen,
      advertise: config.nbdAdvertise,
      report: event => logExportEvent(log, event),
    });
    this.#repositories = new RepositoryStore({
      store: this.#store,
      exports: this.#exports,
      now,
      report: problem => log.warn(problem, 'repository problem'),
    });
    const graph = new BlockGraph();
    this.#metrics = nodeMetrics(options);
    const told = { log, pass, metrics: this.#metrics };
    this.#jobs = new JobRunner({ clock: systemClock, report: end => reportEnd(end, told) });
    const jobs = this.#jobs;
    this.#streams = new StreamRunner({ graph, jobs });
    this.#volumes = new VolumeRegistry({
      graph,
      store: this.#store,
      exports: this.#exports,
      streams: this.#streams,
      now,
      report: problem => log.warn(problem, 'volume problem'),
    });
    const volumes = this.#volumes;
    this.#frozen = momentServices({
      ...{ graph, volumes, jobs, store: this.#store, exports: this.#exports, clock: systemClock },
      ...{ scratchLimitBytes: config.scratchLimitBytes, targetReconnectMs: config.targetReconnectMs },
      report: problem => log.warn(problem, 'moment problem'),
    });
    this.#together = groupServices({
      ...{ graph, volumes, store: this.#store, clock: systemClock, ...this.#frozen },
      ...{ hooks: config.hooks, fencesOff: options.fencesOff },
      report: problem => log.warn(problem, 'group problem'),
    });
    const reconnectMs = config.targetReconnectMs;
    this.#restores = new RestoreRunner({ graph, store: this.#store, volumes, jobs, now, reconnectMs });
    this.#moves = new MoveRunner({ graph, volumes, jobs, reconnectMs });
    this.#commits = new CommitRunner({ graph, volumes, jobs });
    this.#audits = new AuditRunner({ graph, volumes, jobs, moments: this.#frozen.moments });
    const { qmpListen } = config;
    this.#qmp =
      qmpListen === undefined
        ? undefined
        : new QmpService({
            listen: qmpListen,
            graph,
            jobs: jobs.registry,
            volumes,
            version: options.version,
          });
    const { controlListen: listen, fleetSecret, tls } = config;
    this.#grpc = new GrpcServer({
      ...{ listen, fleetSecret, tls },
      refused: logRefusal(log),
      services: this.#services(),
    });
  }

  /** Rejects with what went wrong; everything started before is stopped again then. */
  async start(): Promise<void> {
    try {
      await this.#begin(this.#store.open(), () => this.#store.close());
      const identity = await loadIdentity(this.#store, { nodeName: this.#config.nodeName, now: this.#now });
      await this.#ledger.load();
      this.#undo.push(() => this.#exports.close());
      await this.#begin(this.#repositories.load(), () => this.#repositories.close());
      await this.#restores.load();
      await this.#begin(this.#volumes.load(), () => this.#volumes.close());
      const { moments } = this.#frozen;
      await this.#begin(moments.load(), () => moments.close());
      const { groups, hooks } = this.#together;
      await this.#begin(groups.load(), () => groups.close());
      // Not before all exports are back under their names: 'unknown' is an answer that clients do not ask for again.
      await this.#exports.start();
      this.#undo.push(() => this.#jobs.close());
      if (this.#qmp !== undefined) await this.#begin(this.#qmp.start(), () => this.#qmp!.close());
      // Before jobs are ended: they and their guests may wait for a host that is away.
      this.#undo.push(() => this.#volumes.abandonSources());
      this.#started = { startedAtMs: this.#now(), identity };
      this.#undo.push(async () => hooks.close());
      await this.#begin(this.#grpc.start(), () => this.#grpc.close());
      await this.#begin(this.#startHealth(), async () => this.#health?.close());
      await this.#begin(this.#startMetrics(), () => this.#metrics.close());
      this.#joinFleet(identity);
    } catch (error) {
      await this.close();
      throw error;
    }
    this.#log.info(
      {
        instanceId: this.#started.identity.instanceId,
        control: this.controlAddress,
        nbd: this.#exports.address,
        health: this.#health?.address,
        metrics: this.#metrics.address,
        qmp: this.#config.qmpListen,
        volumes: this.#volumes.count,
        repositories: this.#repositories.count,
      },
      'listening',
    );
  }

  /** Ends calls, exports and connections, makes everything durable. Good to repeat. */
  async close(): Promise<void> {
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) {
      await undo().catch((error: unknown) => this.#log.error({ err: error }, 'stopping failed'));
    }
  }

  /** Where the control service listens; undefined before `start`. */
  get controlAddress(): string | undefined {
    return this.#grpc.address && formatHostPort(this.#grpc.address);
  }

  get metricsAddress(): string | undefined {
    return this.#metrics.address;
  }

  get healthAddress(): string | undefined {
    return this.#health?.address;
  }

  #services(): GrpcService[] {
    const context: CallContext = {
      ledger: this.#ledger,
      report: ({ error, ...call }) => {
        const fields = { ...call, code: error.code, message: error.message };
        if (error.code === 'internal-error') this.#log.error({ ...fields, err: error }, 'call failed');
        else this.#log.info(fields, 'call refused');
      },
      reportStep: done => this.#log.info(done, 'step done'),
    };
    return [
      storageNodeService({ context, status: () => this.#status() }),
      repositoryService({
        context,
        repositories: this.#repositories,
        checks: new CheckRunner({ repositories: this.#repositories, jobs: this.#jobs }),
        verifications: new VerifyRunner({ repositories: this.#repositories, jobs: this.#jobs }),
        removals: new RemovalRunner({ repositories: this.#repositories, jobs: this.#jobs }),
        replications: new ReplicationRunner({
          ...{ repositories: this.#repositories, jobs: this.#jobs },
          reconnectMs: this.#config.targetReconnectMs,
        }),
      }),
      volumeService({
        context,
        volumes: this.#volumes,
        streams: this.#streams,
        moves: this.#moves,
      }),
      checkpointService({ context, volumes: this.#volumes, now: this.#now }),
      snapshotService({ context, volumes: this.#volumes, commits: this.#commits, now: this.#now }),
      groupService({ context, ...this.#together }),
      jobService({
        context,
        jobs: this.#jobs,
        ...this.#frozen,
        restores: this.#restores,
        audits: this.#audits,
      }),
    ];
  }

  #joinFleet({ instanceId }: Identity): void {
    const { join, nodeName: name, controlAdvertise, labels } = this.#config;
    if (join === undefined) return;
    const controlAddress = controlAdvertise ? formatHostPort(controlAdvertise) : this.controlAddress!;
    const membership = new FleetMembership({
      ...{ store: this.#store, clock: systemClock, join },
      member: { name, controlAddress, instanceId, labels },
      report: ({ isTrouble, message }) => this.#log[isTrouble ? 'error' : 'info']({ message }, 'fleet'),
    });
    membership.start();
    this.#undo.push(() => membership.close());
  }

  async #status(): Promise<StorageNodeStatus> {
    const started = this.#started;
    if (started === undefined) throw new Error('The storage node has not started yet.');
    return {
      instanceId: started.identity.instanceId,
      name: this.#config.nodeName,
      version: this.#version,
      nbdAddress: this.#exports.address,
      ...(await diskSpace(this.#store.folder)),
      startedAtMs: started.startedAtMs,
      volumes: this.#volumes.count,
      repositories: this.#repositories.count,
      labels: this.#config.labels,
    };
  }

  /** Also what failed half-way is undone. */
  async #begin(starting: Promise<void>, undo: () => Promise<void>): Promise<void> {
    this.#undo.push(undo);
    await starting;
  }

  async #startMetrics(): Promise<void> {
    const { metricsListen } = this.#config;
    if (metricsListen === undefined) return;
    const { moments } = this.#frozen;
    const sources = { exports: this.#exports, jobs: this.#jobs, volumes: this.#volumes };
    this.#metrics.show({ ...sources, moments, stateFolder: this.#store.folder });
    await this.#metrics.listen(metricsListen);
  }

  async #startHealth(): Promise<void> {
    const { healthListen } = this.#config;
    if (healthListen === undefined) return;
    // Answering at all is the check: a storage node whose process runs serves its guests.
    this.#health = await startHealthServer({ listen: healthListen, check: () => undefined });
  }
}

/** Clients come and go all the time; what failed is worth a look. */
function logExportEvent(log: Logger, { what, ...fields }: ExportEvent): void {
  const isUsual = what === 'client-connected' || what === 'client-disconnected';
  log[isUsual ? 'debug' : 'warn'](fields, `nbd ${what}`);
}

function stepLedger(store: StateStore, log: Logger, pass: PassPoint | undefined): StepLedger {
  const report = (problem: object) => log.warn(problem, 'step ledger problem');
  return new StepLedger({ store, pass, elapsedMs: () => performance.now(), report });
}

function nodeMetrics({ log, runtimeMetrics = false }: StorageNodeOptions): NodeMetrics {
  const failed = (error: unknown) => log.warn({ err: error }, 'metric not read');
  return new NodeMetrics({ failed, runtime: runtimeMetrics });
}

const logRefusal =
  (log: Logger) =>
  ({ peer, error: { code, message } }: Refusal): void =>
    log.warn({ peer, code, message }, 'call refused');

function reportEnd(
  end: JobSnapshot,
  told: { log: Logger; pass: PassPoint | undefined; metrics: NodeMetrics },
): void {
  told.pass?.('job ended');
  told.log.info(end, 'job ended');
  told.metrics.jobEnded(end);
}
