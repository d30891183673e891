// A storage node that speaks the whole contract and keeps everything in memory: the tests of the worker need
// one that fails on command.
import {
  Server,
  ServerCredentials,
  type ServerWritableStream,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import {
  type Checkpoint,
  CheckpointServiceService,
  type Empty,
  ERROR_CODES,
  type ErrorCode,
  GroupServiceService,
  JobServiceService,
  type JobStatus,
  type PublishBackupRequest,
  RepositoryServiceService,
  SnapshotServiceService,
  type StepContext,
  StorageNodeServiceService,
  StoredBackup,
  TidemarkError,
  toServiceError,
  Volume,
  VolumeServiceService,
} from '@tidemark/proto';
import { checkpointHandlers } from './scripted-checkpoints.ts';
import { ScriptedGroups } from './scripted-groups.ts';
import type { Handler, Handlers } from './scripted-handlers.ts';
import { ScriptedInventory } from './scripted-inventory.ts';
import { ScriptedJobs } from './scripted-jobs.ts';
import { ScriptedMoves } from './scripted-moves.ts';
import { refuse } from './scripted-refusal.ts';
import { ScriptedRemovals } from './scripted-removals.ts';
import { ScriptedRestores } from './scripted-restores.ts';
import { ScriptedSnapshots } from './scripted-snapshots.ts';
import { ScriptedVerifications } from './scripted-verifications.ts';

/** What a scripted job is about: an export, what happens at its end, and its id where the contract gives one. */
interface JobPlace {
  uri: string;
  ended?: () => void;
  jobId?: string;
}

interface Call {
  method: string;
  step: StepContext | undefined;
}

type Fault = { method: string; code: ErrorCode; times: number; afterwards: boolean };

const NONE: Empty = {};
/** Repeated steps of these are answered from memory; all others are done again, and are good to repeat. */
const ANSWERED_AGAIN = /^(create|publish)/;

const uriOf = (name: string) => `nbd://127.0.0.1:10809/${name}`;

export class ScriptedStorageNode {
  readonly name: string;
  instanceId: string;
  startedAtMs = 1;
  /** Every call that arrived, in order. */
  readonly calls: Call[] = [];
  readonly volumes = new Map<string, Volume>();
  readonly checkpoints = new Map<string, Checkpoint & { volumeId: string }>();
  readonly repositories = new Map<string, string>();
  readonly partial = new Map<string, { parent: string; uri: string; volumeId: string }>();
  /** What each preparation of a backup asked room for. */
  readonly expectedBytes: number[] = [];
  readonly published = new Map<string, StoredBackup>();
  readonly openBackups = new Set<string>();
  readonly jobs = new Map<string, JobStatus>();
  readonly snapshots = new ScriptedSnapshots(this);
  readonly removals = new ScriptedRemovals(this);
  readonly restores = new ScriptedRestores(this);
  readonly inventory = new ScriptedInventory(this);
  readonly verifications = new ScriptedVerifications(this);
  readonly scriptedJobs = new ScriptedJobs(this);
  readonly groups = new ScriptedGroups(this);
  readonly moves = new ScriptedMoves(this);
  /** By method: what happens as soon as the next call of it has been carried out. */
  readonly afterNext = new Map<string, () => void>();
  /** What every repository says it has left. */
  availableBytes = 1_000_000;
  /** While set, jobs stay halfway. */
  holdJobs = false;
  /** Of all storage nodes of a fleet: what can be connected to. */
  readonly #exports: Set<string>;
  readonly #faults: Fault[] = [];
  #jobError: { code: ErrorCode; message: string } | undefined;
  readonly #hanging = new Set<string>();
  readonly #answers = new Map<string, unknown>();
  readonly #epochs = new Map<string, number>();
  #server: Server | undefined;
  #port = 0;

  constructor(name: string, exports: Set<string>) {
    this.name = name;
    this.#exports = exports;
    this.instanceId = `instance-${name}`;
  }

  get address(): string {
    return `127.0.0.1:${this.#port}`;
  }

  async start(): Promise<void> {
    const server = new Server();
    const services = [
      StorageNodeServiceService,
      VolumeServiceService,
      CheckpointServiceService,
      SnapshotServiceService,
      RepositoryServiceService,
      GroupServiceService,
      JobServiceService,
    ];
    for (const service of services as ServiceDefinition[]) {
      server.addService(service, this.#implement(service));
    }
    this.#port = await new Promise((resolve, reject) =>
      server.bindAsync(
        this.#port ? this.address : '127.0.0.1:0',
        ServerCredentials.createInsecure(),
        (error, port) => (error ? reject(error) : resolve(port)),
      ),
    );
    this.#server = server;
  }

  /** As a crash does to its clients; what it keeps, it still has after `start`. */
  stop(): void {
    this.#server?.forceShutdown();
    this.#server = undefined;
  }

  /** The next `times` calls are refused, after earlier faults; `afterwards`: when they were carried out. */
  fail(method: string, code: ErrorCode, options: { times?: number; afterwards?: boolean } = {}): void {
    const { times = Number.POSITIVE_INFINITY, afterwards = false } = options;
    this.#faults.push({ method, code, times, afterwards });
  }

  /** What every job ends with instead of success. */
  failJobs(error: { code: ErrorCode; message: string } | undefined): void {
    this.#jobError = error;
  }

  get jobError(): { code: ErrorCode; message: string } | undefined {
    return this.#jobError;
  }

  /** Calls are never answered. */
  hang(method: string): void {
    this.#hanging.add(method);
  }

  heal(): void {
    this.#hanging.clear();
    this.#faults.length = 0;
  }

  callsOf(method: string): Call[] {
    return this.calls.filter(call => call.method === method);
  }

  #implement(service: ServiceDefinition): UntypedServiceImplementation {
    const handlers = this.#handlers();
    const entries = Object.keys(service).map(method => {
      if (method === 'watchJob') {
        const watch = (call: ServerWritableStream<{ jobId: string }, JobStatus>) => {
          this.calls.push({ method, step: undefined });
          this.scriptedJobs.watch(call);
        };
        return [method, watch];
      }
      const handle = (
        call: { request: { step?: StepContext } },
        reply: (error: unknown, answer?: unknown) => void,
      ) => {
        if (this.#hanging.has(method)) return;
        try {
          const handler = handlers[method];
          if (!handler) throw refuse('invalid-request', `${method} is not played`);
          // What the script leaves out has its default, as on the wire.
          const defaults = service[method]!.responseDeserialize(Buffer.alloc(0));
          reply(null, { ...defaults, ...(this.#answer(method, call.request, handler) as object) });
        } catch (error) {
          if (error instanceof TidemarkError) reply(toServiceError(error));
          else reply({ code: ERROR_CODES['internal-error'].grpc, details: String(error) });
        }
      };
      return [method, handle];
    });
    return Object.fromEntries(entries);
  }

  #answer(method: string, request: { step?: StepContext }, handler: Handler): unknown {
    const { step } = request;
    this.calls.push({ method, step });
    const fault = this.#faults.find(({ method: name, times }) => name === method && times > 0);
    if (fault) fault.times -= 1;
    if (fault && !fault.afterwards) throw refuse(fault.code, `${method} of ${this.name}`);
    const answer = step ? this.#once(method, step, () => handler(request)) : handler(request);
    if (fault) throw refuse(fault.code, `the answer of ${method} got lost`);
    const next = this.afterNext.get(method);
    this.afterNext.delete(method);
    next?.();
    return answer;
  }

  #once(method: string, step: StepContext, handle: () => unknown): unknown {
    const newest = this.#epochs.get(step.runId) ?? 0;
    if (step.leaseEpoch < newest) throw refuse('run-superseded', `epoch ${step.leaseEpoch} after ${newest}`);
    this.#epochs.set(step.runId, step.leaseEpoch);
    if (!ANSWERED_AGAIN.test(method)) return handle();
    const key = `${step.runId} ${method} ${step.step}`;
    if (!this.#answers.has(key)) this.#answers.set(key, handle());
    return this.#answers.get(key);
  }

  #handlers(): Handlers {
    return {
      ...this.inventory.handlers(),
      ...this.#volumeHandlers(),
      ...checkpointHandlers(this),
      ...this.snapshots.handlers(),
      ...this.#repositoryHandlers(),
      ...this.removals.handlers(),
      ...this.verifications.handlers(),
      ...this.restores.handlers(),
      ...this.scriptedJobs.handlers(),
      ...this.groups.handlers(),
      ...this.moves.handlers(),
    };
  }

  volume(id: string): Volume {
    const found = this.volumes.get(id);
    if (!found) throw refuse('volume-not-found', id);
    return found;
  }

  #volumeHandlers(): Handlers {
    return {
      createVolume: request => this.createVolume(request),
      deleteVolume: ({ volumeId }) => {
        const name = this.volumes.get(volumeId)?.name;
        if (this.scriptedJobs.isBusy(volumeId) || this.restores.holds(volumeId)) {
          throw refuse('volume-busy', `${name} has a job`);
        }
        this.volumes.delete(volumeId);
        return NONE;
      },
      getVolume: ({ volumeId }) => this.volume(volumeId),
    };
  }

  #repositoryHandlers(): Handlers {
    return {
      createRepository: ({ repositoryId, name, limitBytes }) => {
        this.repositories.set(repositoryId, name);
        return { repositoryId, name, limitBytes, usedBytes: 0, availableBytes: 0 };
      },
      getRepository: ({ repositoryId }) => {
        const name = this.repositories.get(repositoryId);
        if (name === undefined) throw refuse('repository-not-found', repositoryId);
        return { repositoryId, name, limitBytes: 0, usedBytes: 0, availableBytes: this.availableBytes };
      },
      prepareBackup: ({ repositoryId, backupId, parentBackupId, sizeBytes, volumeId, expectedBytes }) => {
        this.expectedBytes.push(expectedBytes);
        if (!this.repositories.has(repositoryId)) throw refuse('repository-not-found', repositoryId);
        const known = this.partial.get(backupId);
        if (known && known.parent !== parentBackupId) {
          throw refuse('backup-not-usable', `${backupId} is being written with other settings`);
        }
        const uri = known?.uri ?? this.share(`${backupId}-${this.calls.length}`);
        this.partial.set(backupId, { parent: parentBackupId, uri, volumeId });
        return { uri, sizeBytes };
      },
      publishBackup: request => this.#publish(request),
      discardBackup: ({ backupId }) => {
        if (this.published.has(backupId)) throw refuse('backup-not-usable', `${backupId} is published`);
        this.dropPartial(backupId);
        return NONE;
      },
      openBackup: ({ backupId }) => {
        const stored = this.published.get(backupId);
        if (!stored) throw refuse('backup-not-found', backupId);
        this.openBackups.add(backupId);
        return { uri: this.share(backupId), sizeBytes: stored.sizeBytes };
      },
      closeBackup: ({ backupId, step }) => {
        this.dropOpenBackup(backupId);
        this.inventory.close(backupId, step.runId);
        return NONE;
      },
    };
  }

  /** Whatever is still connected to it loses its connection. */
  dropPartial(backupId: string): void {
    this.#exports.delete(this.partial.get(backupId)?.uri ?? '');
    this.partial.delete(backupId);
  }

  dropOpenBackup(backupId: string): void {
    this.openBackups.delete(backupId);
    this.#exports.delete(uriOf(backupId));
  }

  /** Whether something is there to connect to. */
  canReach(uri: string): boolean {
    return this.#exports.has(uri);
  }

  /** The URI; from here on something is there to connect to. */
  share(name: string): string {
    this.#exports.add(uriOf(name));
    return uriOf(name);
  }

  unshare(uri: string): void {
    this.#exports.delete(uri);
  }

  makeVolume(wanted: { volumeId: string; name: string; sizeBytes: number; format: string }): Volume {
    return Volume.fromPartial({ ...wanted, exportUri: uriOf(wanted.name) });
  }

  createVolume(wanted: Parameters<ScriptedStorageNode['makeVolume']>[0]): Volume {
    const volume = this.makeVolume(wanted);
    this.volumes.set(wanted.volumeId, volume);
    return volume;
  }

  #publish(request: PublishBackupRequest): StoredBackup {
    const partial = this.partial.get(request.backupId);
    if (partial?.uri !== request.targetUri) throw refuse('backup-not-found', request.backupId);
    this.dropPartial(request.backupId);
    const { repositoryId: _, targetUri: __, step: ___, ...manifest } = request;
    const stored = StoredBackup.fromPartial({
      ...manifest,
      ...{ parentBackupId: partial.parent, volumeId: partial.volumeId, compression: 'none' },
      sizeBytes: 4096,
      storedBytes: 512,
      fileName: `${request.backupId}.qcow2`,
    });
    this.published.set(request.backupId, stored);
    return stored;
  }

  /** It lives as long as `uri` can be connected to. */
  startJob(
    type: string,
    totalBytes: number,
    { jobId = `job-${this.jobs.size + 1}-${this.calls.length}`, ...place }: JobPlace,
  ): string {
    this.scriptedJobs.start(jobId, { type, totalBytes, ...place });
    return jobId;
  }
}
