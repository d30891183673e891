// A storage node that speaks the whole contract and keeps everything in memory: the tests of the worker need
// one that fails on command. Its jobs copy nothing; they count up while nobody holds them.
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
  JobServiceService,
  JobStatus,
  RepositoryServiceService,
  SnapshotServiceService,
  type StartBackupRequest,
  type StepContext,
  StorageNodeServiceService,
  StoredBackup,
  TidemarkError,
  toServiceError,
  Volume,
  VolumeServiceService,
} from '@tidemark/proto';
import { checkpointHandlers, createCheckpoint } from './scripted-checkpoints.ts';
import { ScriptedInventory } from './scripted-inventory.ts';
import { refuse } from './scripted-refusal.ts';
import { ScriptedRemovals } from './scripted-removals.ts';
import { ScriptedRestores } from './scripted-restores.ts';
import { ScriptedSnapshots } from './scripted-snapshots.ts';
import { ScriptedVerifications } from './scripted-verifications.ts';

interface Call {
  method: string;
  step: StepContext | undefined;
}

type Fault = { method: string; code: ErrorCode; times: number; afterwards: boolean };

// biome-ignore lint/suspicious/noExplicitAny: one table for requests of every type
type Handler = (request: any) => unknown;

const NONE: Empty = {};
/** Repeated steps of these are answered from memory; all others are done again, and are good to repeat. */
const ANSWERED_AGAIN = /^(create|publish)/;
const TICK_MS = 10;
const TICKS = 4;

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
  readonly published = new Map<string, StoredBackup>();
  readonly openBackups = new Set<string>();
  readonly jobs = new Map<string, JobStatus>();
  readonly snapshots = new ScriptedSnapshots(this);
  readonly removals = new ScriptedRemovals(this);
  readonly restores = new ScriptedRestores(this);
  readonly inventory = new ScriptedInventory(this);
  readonly verifications = new ScriptedVerifications(this);
  /** While set, jobs stay halfway. */
  holdJobs = false;
  /** Of all storage nodes of a fleet: what can be connected to. */
  readonly #exports: Set<string>;
  readonly #started = new Map<string, { jobId: string; [fact: string]: unknown }>();
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
  failJobs(error: { code: ErrorCode; message: string }): void {
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
      if (method === 'watchJob')
        return [method, (call: ServerWritableStream<{ jobId: string }, JobStatus>) => this.#watch(call)];
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

  #handlers(): Record<string, Handler> {
    return {
      ...this.inventory.handlers(),
      ...this.#volumeHandlers(),
      ...checkpointHandlers(this),
      ...this.snapshots.handlers(),
      ...this.#repositoryHandlers(),
      ...this.removals.handlers(),
      ...this.verifications.handlers(),
      ...this.restores.handlers(),
      ...this.#jobHandlers(),
    };
  }

  #volume(id: string): Volume {
    const found = this.volumes.get(id);
    if (!found) throw refuse('volume-not-found', id);
    return found;
  }

  #volumeHandlers(): Record<string, Handler> {
    return {
      createVolume: request => this.#createVolume(request),
      deleteVolume: ({ volumeId }) => {
        const name = this.volumes.get(volumeId)?.name;
        const isBusy = [...this.#started.values()].some(
          ({ jobId, volume }) => volume === volumeId && this.jobs.get(jobId)?.state === 'running',
        );
        if (isBusy || this.restores.holds(volumeId)) throw refuse('volume-busy', `${name} has a job`);
        this.volumes.delete(volumeId);
        return NONE;
      },
      getVolume: ({ volumeId }) => this.#volume(volumeId),
    };
  }

  #repositoryHandlers(): Record<string, Handler> {
    return {
      createRepository: ({ repositoryId, name, limitBytes }) => {
        this.repositories.set(repositoryId, name);
        return { repositoryId, name, limitBytes, usedBytes: 0, availableBytes: 0 };
      },
      prepareBackup: ({ repositoryId, backupId, parentBackupId, sizeBytes, volumeId }) => {
        if (!this.repositories.has(repositoryId)) throw refuse('repository-not-found', repositoryId);
        const known = this.partial.get(backupId);
        if (known && known.parent !== parentBackupId) {
          throw refuse('backup-not-usable', `${backupId} is being written with other settings`);
        }
        const uri = known?.uri ?? this.#export(`${backupId}-${this.calls.length}`);
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
        return { uri: this.#export(backupId), sizeBytes: stored.sizeBytes };
      },
      closeBackup: ({ backupId, step }) => {
        this.dropOpenBackup(backupId);
        this.inventory.close(backupId, step.runId);
        return NONE;
      },
    };
  }

  #jobHandlers(): Record<string, Handler> {
    return {
      startBackup: request => this.#startBackup(request),
      cancelJob: ({ jobId }) => {
        const status = this.jobs.get(jobId);
        if (!status) throw refuse('job-not-found', jobId);
        if (status.state === 'concluded') throw refuse('job-state', jobId);
        status.state = 'concluded';
        status.error = { code: 'run-cancelled', message: 'The job was cancelled.' };
        return NONE;
      },
      dismissJob: ({ jobId }) => {
        this.jobs.delete(jobId);
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

  #export(name: string): string {
    this.#exports.add(uriOf(name));
    return uriOf(name);
  }

  #startBackup(request: StartBackupRequest): unknown {
    const { volumeId, checkpointId, checkpointName: name, baseCheckpointId, targetUri } = request;
    const known = this.#started.get(checkpointId);
    if (known && this.jobs.has(known.jobId)) return known;
    if (this.checkpoints.has(checkpointId)) throw refuse('job-interrupted', checkpointId);
    const { sizeBytes } = this.#volume(volumeId);
    if (baseCheckpointId && !this.checkpoints.has(baseCheckpointId)) {
      throw refuse('checkpoint-not-found', baseCheckpointId);
    }
    const dirtyBytes = baseCheckpointId ? sizeBytes / 4 : sizeBytes;
    const jobId = this.startJob('backup', dirtyBytes, { uri: targetUri });
    const { createdAtMs } = createCheckpoint(this, { volumeId, checkpointId, name });
    const answer = { jobId, pointInTimeMs: createdAtMs, dirtyBytes, volume: volumeId };
    this.#started.set(checkpointId, answer);
    return answer;
  }

  makeVolume(wanted: { volumeId: string; name: string; sizeBytes: number; format: string }): Volume {
    return Volume.fromPartial({ ...wanted, exportUri: uriOf(wanted.name) });
  }

  #createVolume(wanted: Parameters<ScriptedStorageNode['makeVolume']>[0]): Volume {
    const volume = this.makeVolume(wanted);
    this.volumes.set(wanted.volumeId, volume);
    return volume;
  }

  #publish(request: { repositoryId: string; backupId: string; kind: string; reason: string }): StoredBackup {
    const partial = this.partial.get(request.backupId);
    if (!partial) throw refuse('backup-not-found', request.backupId);
    this.dropPartial(request.backupId);
    const { repositoryId: _, ...manifest } = request;
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
  startJob(type: string, totalBytes: number, { uri, ended }: { uri: string; ended?: () => void }): string {
    if (!this.#exports.has(uri)) throw refuse('io-error', `nothing is at ${uri}`);
    const jobId = `job-${this.jobs.size + 1}-${this.calls.length}`;
    const status = JobStatus.fromPartial({ jobId, type, state: 'running', totalBytes });
    this.jobs.set(jobId, status);
    let tick = 0;
    const timer = setInterval(() => {
      if (status.state === 'concluded') return clearInterval(timer);
      if (!this.#exports.has(uri)) {
        status.state = 'concluded';
        status.error = { code: 'io-error', message: `The connection to ${uri} was lost.` };
        return;
      }
      if (this.holdJobs && tick >= TICKS / 2) return;
      tick += 1;
      status.currentBytes = (totalBytes * tick) / TICKS;
      status.sentBytes = status.currentBytes / 2;
      if (tick < TICKS) return;
      ended?.();
      status.state = 'concluded';
      if (this.#jobError) status.error = this.#jobError;
    }, TICK_MS).unref();
    return jobId;
  }

  #watch(call: ServerWritableStream<{ jobId: string }, JobStatus>): void {
    this.calls.push({ method: 'watchJob', step: undefined });
    const job = this.jobs.get(call.request.jobId);
    if (!job) {
      call.emit('error', toServiceError(refuse('job-not-found', call.request.jobId)));
      return;
    }
    const tell = () => {
      call.write({ ...job });
      if (job.state !== 'concluded') return;
      clearInterval(timer);
      call.end();
    };
    const timer = setInterval(tell, TICK_MS);
    call.on('cancelled', () => clearInterval(timer));
    tell();
  }
}
