// A storage node's services as promises: every call has a deadline, can be aborted, and fails with the
// error the storage node meant.
import {
  type CallOptions,
  type Client,
  type ClientReadableStream,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type ServiceDefinition,
} from '@grpc/grpc-js';
import { type CalledPeer, fromServiceError } from './errors.ts';
import { sendFleetSecret } from './fleet-secret.ts';
import { GroupServiceClient, GroupServiceService } from './generated/tidemark/v1/group.ts';
import {
  type JobRequest,
  JobServiceClient,
  JobServiceService,
  type JobStatus,
} from './generated/tidemark/v1/job.ts';
import { RepositoryServiceClient, RepositoryServiceService } from './generated/tidemark/v1/repository.ts';
import { SnapshotServiceClient, SnapshotServiceService } from './generated/tidemark/v1/snapshot.ts';
import { StorageNodeServiceClient, StorageNodeServiceService } from './generated/tidemark/v1/storage_node.ts';
import {
  type ChangedBlocks,
  ChangedBlocksRequest,
  CheckpointServiceClient,
  CheckpointServiceService,
  VolumeServiceClient,
  VolumeServiceService,
} from './generated/tidemark/v1/volume.ts';
import { grpcClientCredentials } from './tls/grpc-credentials.ts';
import type { TlsFiles } from './tls/tls-files.ts';

export interface UnaryOptions {
  /** 60,000 unless told: durable work on a busy disk takes seconds, and an answer may never come. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

type Unary<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: Error | null, response: Response) => void,
) => ClientUnaryCall;

/**
 * The unary calls of a generated client, as promises. They reject with a `TidemarkError`. Fields that a request
 * leaves out have their defaults, as on the wire.
 */
export type Promised<C> = {
  // biome-ignore lint/suspicious/noExplicitAny: matches a call of any message types
  [K in keyof C as C[K] extends Unary<any, any> ? K : never]: C[K] extends Unary<
    infer Request,
    infer Response
  >
    ? (request: Partial<Request>, options?: UnaryOptions) => Promise<Response>
    : never;
};

export interface StorageNodeClients {
  /** Used in messages. */
  readonly name: string;
  readonly address: string;
  readonly storageNode: Promised<StorageNodeServiceClient>;
  readonly volumes: Promised<VolumeServiceClient>;
  readonly checkpoints: Promised<CheckpointServiceClient>;
  readonly snapshots: Promised<SnapshotServiceClient>;
  readonly repositories: Promised<RepositoryServiceClient>;
  readonly groups: Promised<GroupServiceClient>;
  readonly jobs: Promised<JobServiceClient>;
  /** Each status as it comes; ends after the terminal one. An abort ends it with the signal's reason. */
  watchJob(request: JobRequest, options?: { signal?: AbortSignal }): AsyncIterable<JobStatus>;
  /** Part by part, in order of offsets; the storage node waits for who reads them. Ends as `watchJob` does. */
  listChangedBlocks(
    request: Partial<ChangedBlocksRequest>,
    options?: { signal?: AbortSignal },
  ): AsyncIterable<ChangedBlocks>;
  /** Calls under way fail; no connection is left. */
  close(): void;
}

const UNARY_TIMEOUT_MS = 60_000;

/** Of one answer: a list of half a million backups takes 300 MiB, and gRPC would refuse what is above 4. */
const ANSWER_BYTES_MAX = 1024 * 1024 * 1024;

const CHANNEL_OPTIONS = {
  'grpc.max_receive_message_length': ANSWER_BYTES_MAX,
  // A storage node that vanished without a word ends a watch after 15 s instead of never.
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  // A storage node that comes back is found within seconds.
  'grpc.initial_reconnect_backoff_ms': 250,
  'grpc.max_reconnect_backoff_ms': 2_000,
};

/** How the fleet's services prove to each other that they belong to it. */
export interface FleetKeys {
  /** Sent with each call, where the storage node asks for it. */
  fleetSecret?: string | undefined;
  /** Calls are encrypted, with certificates of both sides; undefined: plain. */
  tls?: TlsFiles | undefined;
}

export interface StorageNodePeer extends FleetKeys {
  /** Used in messages. */
  name: string;
  /** host:port */
  address: string;
}

/** Connects at the first call. */
export function connectStorageNode({ name, address, fleetSecret, tls }: StorageNodePeer): StorageNodeClients {
  const secure = tls && grpcClientCredentials(tls, address);
  const options = {
    ...CHANNEL_OPTIONS,
    ...secure?.options,
    ...(fleetSecret !== undefined && { interceptors: [sendFleetSecret(fleetSecret)] }),
  };
  const keys = secure?.credentials ?? credentials.createInsecure();
  const peer = { name, address, usesTls: tls !== undefined };
  const storageNode = new StorageNodeServiceClient(address, keys, options);
  const volumes = new VolumeServiceClient(address, keys, options);
  const checkpoints = new CheckpointServiceClient(address, keys, options);
  const snapshots = new SnapshotServiceClient(address, keys, options);
  const repositories = new RepositoryServiceClient(address, keys, options);
  const groups = new GroupServiceClient(address, keys, options);
  const jobs = new JobServiceClient(address, keys, options);
  return {
    name,
    address,
    storageNode: promised(storageNode, StorageNodeServiceService, peer),
    volumes: promised(volumes, VolumeServiceService, peer),
    checkpoints: promised(checkpoints, CheckpointServiceService, peer),
    snapshots: promised(snapshots, SnapshotServiceService, peer),
    repositories: promised(repositories, RepositoryServiceService, peer),
    groups: promised(groups, GroupServiceService, peer),
    jobs: promised(jobs, JobServiceService, peer),
    watchJob: (request, options) => follow(jobs.watchJob(request), peer, options?.signal),
    listChangedBlocks: (request, options) =>
      follow(checkpoints.listChangedBlocks(ChangedBlocksRequest.fromPartial(request)), peer, options?.signal),
    close: () => {
      const clients = [storageNode, volumes, checkpoints, snapshots, repositories, groups, jobs];
      for (const client of clients) client.close();
    },
  };
}

function promised<C extends Client>(client: C, service: ServiceDefinition, peer: CalledPeer): Promised<C> {
  const unary = Object.keys(service).filter(method => !service[method]!.responseStream);
  const calls = client as unknown as Record<string, Unary<unknown, unknown>>;
  const entries = unary.map(method => {
    const defaults = service[method]!.requestDeserialize(Buffer.alloc(0)) as object;
    const call = (request: object, options?: UnaryOptions) =>
      callUnary(calls[method]!.bind(client), { ...defaults, ...request }, peer, options);
    return [method, call];
  });
  return Object.fromEntries(entries) as Promised<C>;
}

function callUnary(
  method: Unary<unknown, unknown>,
  request: unknown,
  peer: CalledPeer,
  { timeoutMs = UNARY_TIMEOUT_MS, signal }: UnaryOptions = {},
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    // gRPC wants a moment of the wall clock, not a length of time.
    const deadline = new Date();
    deadline.setMilliseconds(deadline.getMilliseconds() + timeoutMs);
    const abort = () => call.cancel();
    const call = method(request, new Metadata(), { deadline }, (error, response) => {
      signal?.removeEventListener('abort', abort);
      if (!error) resolve(response);
      else reject(signal?.aborted ? signal.reason : fromServiceError(error, peer));
    });
    signal?.addEventListener('abort', abort, { once: true });
  });
}

async function* follow<T>(
  stream: ClientReadableStream<T>,
  peer: CalledPeer,
  signal?: AbortSignal,
): AsyncGenerator<T> {
  const abort = () => stream.cancel();
  signal?.addEventListener('abort', abort, { once: true });
  if (signal?.aborted) abort();
  try {
    for await (const message of stream) yield message as T;
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw fromServiceError(error, peer);
  } finally {
    signal?.removeEventListener('abort', abort);
    stream.cancel();
  }
}
