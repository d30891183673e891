// Every metric of every process: name, type, labels, meaning. Processes make them from these entries alone, and a test
// holds docs/METRICS.md and this list together. Names after Prometheus' conventions: base units, `_total` for counters.

export type MetricType = 'counter' | 'gauge' | 'histogram';

export interface MetricEntry {
  readonly service: 'api' | 'worker' | 'storage-node';
  readonly type: MetricType;
  readonly help: string;
  readonly labels: readonly string[];
}

const entry =
  (service: MetricEntry['service']) =>
  <T extends MetricType>(type: T, help: string, ...labels: string[]) => ({ service, type, help, labels });
const api = entry('api');
const worker = entry('worker');
const node = entry('storage-node');

export const METRICS = {
  tidemark_http_requests_total: api('counter', 'Requests answered.', 'method', 'route', 'status'),
  tidemark_http_request_duration_seconds: api(
    'histogram',
    'From a request to the end of its answer, waits that were asked for and event streams left out.',
    'method',
    'route',
  ),
  tidemark_event_streams: api('gauge', 'Event streams that are open.'),

  tidemark_run_attempts_total: worker(
    'counter',
    'Attempts at runs by this worker, by how they ended: succeeded, failed, cancelled, handed-back, cleaned-up, left.',
    'kind',
    'outcome',
  ),
  tidemark_run_duration_seconds: worker(
    'histogram',
    'From the request to the end of runs that ended in this worker: succeeded, failed, cancelled.',
    'kind',
    'outcome',
  ),
  tidemark_run_queue_wait_seconds: worker(
    'histogram',
    'From the request of a run to its first claim by this worker.',
    'kind',
  ),
  tidemark_runs: worker('gauge', 'Runs that have not ended: queued, delayed, running, cleaning-up.', 'state'),
  tidemark_schedule_lag_seconds: worker('gauge', 'By how much the oldest firing of a policy is late.'),
  tidemark_webhook_deliveries_total: worker(
    'counter',
    'Attempts to deliver to webhooks by this worker: taken or failed.',
    'outcome',
  ),
  tidemark_webhook_deliveries_pending: worker('gauge', 'Deliveries that wait for webhooks.'),
  tidemark_volumes: worker(
    'gauge',
    'Volumes that are ready, with a good backup (yes) and without (no).',
    'backed_up',
  ),
  tidemark_volumes_left_out: worker('gauge', 'Volumes without series of their own: there are too many.'),
  tidemark_volume_last_good_backup_age_seconds: worker(
    'gauge',
    'Since the point in time of the newest backup that is not known to be damaged or distrusted.',
    'volume',
  ),
  tidemark_volume_last_good_backup_stored_bytes: worker(
    'gauge',
    'What that backup takes in its repository.',
    'volume',
  ),
  tidemark_volume_last_good_backup_sent_bytes: worker('gauge', 'What was sent for that backup.', 'volume'),
  tidemark_volume_last_good_backup_duration_seconds: worker(
    'gauge',
    'From the request of that backup to its publication.',
    'volume',
  ),

  tidemark_nbd_requests_total: node(
    'counter',
    'Requests of NBD clients: read, write, write-zeroes, trim, flush, cache, block-status.',
    'operation',
  ),
  tidemark_nbd_bytes_total: node('counter', 'Bytes that those requests are about.', 'operation'),
  tidemark_nbd_connections: node('gauge', 'NBD clients that are connected.'),
  tidemark_copy_before_write_wait_seconds: node(
    'histogram',
    'How long writes of guests waited until what they overwrite was kept; those that need not wait are left out.',
  ),
  tidemark_copy_before_write_wait_p50_seconds: node('gauge', 'Median of the newest of those waits.'),
  tidemark_copy_before_write_wait_p99_seconds: node('gauge', '99th percentile of the newest of those waits.'),
  tidemark_moments: node('gauge', 'Frozen moments that are kept.'),
  tidemark_jobs: node('gauge', 'Jobs that are known, by their state.', 'type', 'state'),
  tidemark_jobs_ended_total: node('counter', 'Jobs that ended: succeeded or failed.', 'type', 'outcome'),
  tidemark_storage_capacity_bytes: node('gauge', 'Size of the file system that holds the state.'),
  tidemark_storage_available_bytes: node('gauge', 'What is free there.'),
  tidemark_volume_dirty_bytes: node(
    'gauge',
    'What has changed since the newest checkpoint of a volume.',
    'volume',
  ),
} as const satisfies Record<string, MetricEntry>;

export type MetricName = keyof typeof METRICS;

/** Names of one type. */
export type NameOf<T extends MetricType> = {
  [N in MetricName]: (typeof METRICS)[N]['type'] extends T ? N : never;
}[MetricName];
