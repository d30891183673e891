// Every bound of this process, with its reason.

/** A request is a handful of names and numbers; anything of this size is a mistake. */
export const BODY_BYTES_MAX = 64 * 1024;

/** One page of a list by default, and at the most: a few hundred kilobytes of JSON. */
export const PAGE_ITEMS_DEFAULT = 100;
export const PAGE_ITEMS_MAX = 500;

/** Proxies commonly cut idle connections after a minute or more; ten minutes is the longest useful wait. */
export const WAIT_TIMEOUT_DEFAULT_MS = 30_000;
export const WAIT_TIMEOUT_MAX_MS = 600_000;

/** Runs that are waited for are looked at when something is committed, all at once; without any notice this often. */
export const WAIT_LOOK_MS = 1_000;
/** Callers that wait at one process: each holds a connection, and a place in the one look for all of them. */
export const WAITS_MAX = 1_000;

/** Runs being handed to the queue at one time. What is above it is left to the dispatcher's refill. */
export const HAND_OVERS_MAX = 256;
/** A queue that has not answered by then counts as away. */
export const QUEUE_ANSWER_MAX_MS = 2_000;
/** After a queue could not be opened, the next try is this far away. */
export const QUEUE_REOPEN_MS = 1_000;
/** Producing needs one connection, the readiness probe another. */
export const QUEUE_CONNECTIONS_MAX = 2;

/** A readiness probe must answer before its caller's own limit, commonly three to five seconds. */
export const READY_ANSWER_MAX_MS = 2_000;

/** Most checkpoints a volume may be told to have: bitmaps are held in memory, 2 MiB for each TiB of disk. */
export const CHECKPOINT_LIMIT_MAX = 256;
/** A note for people; anything longer belongs elsewhere. */
export const DESCRIPTION_CHARACTERS_MAX = 1_024;

/** Extents of one page by default, and at the most: some megabytes of JSON. More than that is for a stream. */
export const CHANGED_EXTENTS_DEFAULT = 1_000;
export const CHANGED_EXTENTS_MAX = 50_000;

/** What a storage node adds to an answer is waited for this long; then the answer goes without. */
export const LIVE_FACTS_MAX_MS = 1_500;
/** What only a storage node can answer at all is waited for this long. */
export const LIVE_ANSWER_MAX_MS = 30_000;

/** Of one rule of retention: more backups than a repository ever has. */
export const KEEP_COUNT_MAX = 100_000;

/** A client that tries again does so within minutes; a day lets an operator find out what happened. */
export const IDEMPOTENCY_KEPT_MS = 86_400_000;
/** An api that died holds a key no longer than this; one that works renews it three times as often. */
export const IDEMPOTENCY_LEASE_MS = 15_000;
export const IDEMPOTENCY_RENEW_MS = IDEMPOTENCY_LEASE_MS / 3;
/** Who sends a request again that is under way waits for its answer this long, looking this often. */
export const IDEMPOTENCY_WAIT_MS = 60_000;
export const IDEMPOTENCY_POLL_MS = 100;
/** Larger answers are not kept: nothing that is made is as large. */
export const IDEMPOTENCY_ANSWER_MAX = 256 * 1024;
/** Keys that have expired take up room only. */
export const IDEMPOTENCY_SWEEP_MS = 3_600_000;

/** Of a request, in the audit log; what is larger is left out. */
export const AUDIT_REQUEST_CHARACTERS_MAX = 4_096;

/** Conditional changes at one time: each holds a connection of the catalog while it reads on another. */
export const CONDITIONAL_CHANGES_MAX = 2;

/** Event streams of one process: each may hold a page of events, and reads the catalog when there is something new. */
export const EVENT_STREAMS_MAX = 256;
/** Events that are read and written at once; also all that a stream ever holds. */
export const EVENT_STREAM_PAGE = 100;
/** Of all streams, so that they leave connections of the catalog for everything else. */
export const EVENT_READS_AT_ONCE = 3;
/** Streams are woken no more often than this, however many events there are. */
export const EVENT_WAKE_MS = 100;
/** Without any notice, streams look this often. */
export const EVENT_POLL_MS = 5_000;
/** Proxies commonly cut connections that are silent for thirty seconds or more. */
export const EVENT_HEARTBEAT_MS = 15_000;
/** A client that has not taken a page by then is gone, or too slow: it can resume. */
export const EVENT_SLOW_CLIENT_MS = 30_000;
/** How soon a stream ends whose token was revoked, or has expired. */
export const EVENT_ACCESS_MS = 10_000;
/** What a client is told to wait before it connects again. */
export const EVENT_RETRY_MS = 2_000;
/** How often runs are looked at for their progress, which is so often told of at most. */
export const RUN_PROGRESS_MS = 1_000;
/** Runs whose progress is told of at one time, the newest; more are never worked on by tens of workers. */
export const RUN_PROGRESS_MAX = 1_000;
/** Kinds and ids in one filter. */
export const EVENT_KINDS_MAX = 64;

/** Longer ones are mistakes. */
export const WEBHOOK_URL_CHARACTERS_MAX = 1_024;
/** As many as the digest that it makes. */
export const WEBHOOK_SECRET_BYTES = 32;
/** How long guests wait for a group at most. Below, no two machines can agree; above, guests give up by themselves. */
export const FENCE_LIMIT_MIN_MS = 20;
export const FENCE_LIMIT_DEFAULT_MS = 500;
export const FENCE_LIMIT_MAX_MS = 10_000;
/** Applications hold still meanwhile, and hooks are called one after the other. */
export const HOOKS_MAX = 16;
export const HOOK_TIMEOUT_DEFAULT_MS = 10_000;
export const HOOK_TIMEOUT_MAX_MS = 60_000;
/** Volumes that one rule replicates at a time: each holds a run, two connections and 4 MiB of memory. */
export const REPLICATION_CONCURRENCY_MAX = 64;
/** Of a rule's status: what nobody reads to its end. */
export const BLOCKED_TOLD_MAX = 100;

/** Due moments that are made up for, each by itself: more of them would be old news. */
export const POLICY_MISSED_MAX = 100;
/** Backups of one policy at the same time; storage nodes and repositories have limits of their own. */
export const POLICY_CONCURRENCY_MAX = 1_000;
export const POLICY_PRIORITY_MAX = 1_000;
export const POLICY_REPLICAS_MAX = 8;
export const POLICY_RETRIES_MAX = 20;
/** Of bandwidth: one for each hour of each day of a week. */
export const POLICY_WINDOWS_MAX = 168;
export const SIMULATED_DAYS_DEFAULT = 30;
export const SIMULATED_DAYS_MAX = 366;
/** Of one simulation: some seconds of work. */
export const SIMULATED_BACKUPS_MAX = 100_000;
/** Backups at the same time on one storage node, or into one repository: each holds connections and buffers. */
export const CONCURRENT_BACKUPS_MAX = 256;
/** From what a row of the catalog takes to what a busy catalog or a storage node may take. */
export const REQUEST_BUCKETS_SECONDS = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** Long enough to start a storage node by hand, short enough that one left in a script is soon worth nothing. */
export const JOIN_TOKEN_DEFAULT_MS = 60 * 60 * 1000;
/** For those that set up many machines over days. */
export const JOIN_TOKEN_MAX_MS = 7 * 24 * 60 * 60 * 1000;
