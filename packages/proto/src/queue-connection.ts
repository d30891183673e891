// The queue behind one address: `redis://` and `rediss://` go through ioredis, `postgres://` and
// `postgresql://` through BullMQ's own Postgres backend. Kept apart from index.ts so that processes
// without a queue do not load it.
import {
  type BackendFactory,
  createPostgresBackend,
  type IQueueBackend,
  type JobsOptions,
  type Processor,
  Queue,
  type QueueOptions,
  Worker,
  type WorkerOptions,
} from 'bullmq';

/** Enough for one queue job taken, one finished and one looked at, at the same moment. */
const POSTGRES_CONNECTIONS_MAX = 4;
/** A Redis or Postgres that has not taken a connection by then counts as away. */
const CONNECT_TIMEOUT_MS = 5_000;

export interface QueueAddress {
  readonly url: string;
  /** Postgres only: the most connections of one queue or worker, besides its one for LISTEN. */
  readonly connectionsMax?: number;
}

/** A queue job that has ended leaves nothing behind: its id must be free for the dispatcher's refill. */
const QUEUE_JOB_OPTIONS: JobsOptions = { removeOnComplete: true, removeOnFail: true };

type AnyBackend = BackendFactory<IQueueBackend, unknown>;

export function queueKind(url: string): 'redis' | 'postgres' {
  const scheme = url.slice(0, url.indexOf(':'));
  if (scheme === 'redis' || scheme === 'rediss') return 'redis';
  if (scheme === 'postgres' || scheme === 'postgresql') return 'postgres';
  throw new TypeError(
    `The queue address begins with '${scheme}:', which is not known. Use redis:// or postgres://.`,
  );
}

/**
 * A producer's end. A lost connection makes `add` fail soon instead of waiting for the connection to come
 * back: what is not handed over now is handed over by the dispatcher. While the very first connection is
 * being made `add` still waits for it, so give it a time limit. The caller listens to `error` and closes. On
 * Postgres a queue whose first connection failed stays broken: close it and make a new one.
 */
export function createQueue<T>(
  name: string,
  address: QueueAddress,
  options: Omit<QueueOptions, 'connection'> = {},
): Queue<T> {
  const { connection, factory } = connectionTo(address, { failFast: true });
  const all = { defaultJobOptions: QUEUE_JOB_OPTIONS, ...options, connection } as QueueOptions;
  return new Queue(name, all, factory as never) as unknown as Queue<T>;
}

/** A consumer's end: waits for a lost connection to come back. The caller listens to `error` and closes. */
export function createQueueWorker<T>(
  name: string,
  processor: Processor<T>,
  address: QueueAddress,
  options: Omit<WorkerOptions, 'connection'> = {},
): Worker<T> {
  const { connection, factory } = connectionTo(address, { failFast: false });
  const all = { ...options, connection } as WorkerOptions;
  return new Worker(name, processor as Processor, all, factory as never) as unknown as Worker<T>;
}

interface Connection {
  readonly connection: unknown;
  readonly factory: AnyBackend | undefined;
}

function connectionTo(address: QueueAddress, { failFast }: { failFast: boolean }): Connection {
  if (queueKind(address.url) === 'redis') {
    const patience = failFast ? { enableOfflineQueue: false, maxRetriesPerRequest: 1 } : {};
    return {
      connection: { url: address.url, connectTimeout: CONNECT_TIMEOUT_MS, ...patience },
      factory: undefined,
    };
  }
  return {
    connection: {
      connectionString: address.url,
      max: address.connectionsMax ?? POSTGRES_CONNECTIONS_MAX,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      migrate: true,
    },
    factory: createPostgresBackend as unknown as AnyBackend,
  };
}
